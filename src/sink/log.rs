//! Alerts as lines on standard output, for people and for pipes.

use std::io::Write;

use crate::alert::Alert;
use crate::failure::{CallError, Kind};
use crate::model::text::one_line;

/// Writes one line per alert.
pub struct LogSink {
    out: Box<dyn Write>,
}

impl LogSink {
    /// Creates a sink that writes to `out`.
    pub fn new(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out) }
    }

    /// Writes the alerts and flushes.
    ///
    /// # Errors
    /// The writer fails, for example on a closed pipe.
    pub fn write(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
        let mut write = || {
            for alert in alerts {
                // A message is one line, and does nothing to a terminal, whatever its key holds.
                writeln!(self.out, "{}", one_line(&alert.line))?;
            }
            self.out.flush()
        };
        write().map_err(|error| CallError::from_source("log", error, Kind::Internal))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::episode::{EpisodeId, Status};
    use crate::model::{Key, Timestamp};

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_does_nothing_to_a_terminal() {
        let out = Out::default();
        let alert = Alert {
            id: uuid::Uuid::nil(),
            rule: String::new(),
            key: Key::Int(1),
            status: Status::Firing,
            episode: EpisodeId::default(),
            record_key: String::new(),
            line: "User \u{1b}[31mred\u{9d}0;title\u{9c}\nnext".to_owned(),
            emitted_at: Timestamp(0),
            body: String::new(),
        };
        LogSink::new(out.clone()).write(&[alert]).unwrap();
        let written = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "User \\u{1b}[31mred\\u{9d}0;title\\u{9c} next\n");
    }
}
