//! Alerts as lines on standard output, for people and for pipes.

use std::io::Write;

use crate::alert::Alert;
use crate::failure::{CallError, Kind};

/// Writes one line per alert.
pub struct LogSink {
    out: Box<dyn Write>,
}

impl LogSink {
    /// Lines go to this writer.
    pub fn new(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out) }
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// The writer refuses, e.g. a closed pipe.
    pub fn write(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
        let mut write = || {
            for alert in alerts {
                // A message is one line whatever its key holds.
                writeln!(self.out, "{}", alert.line.replace(['\n', '\r'], " "))?;
            }
            self.out.flush()
        };
        write().map_err(|error| CallError::from_source("log", error, Kind::Internal))
    }
}
