//! A run that is watched while it is killed, stopped and continued.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::harness::{Job, wait_for};
use crate::truth::server::signal;

type Lines = Arc<Mutex<Vec<String>>>;

pub struct Run {
    child: Child,
    out: Lines,
    log: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Run {
    /// Until it is stopped.
    pub fn start(job: &Job) -> Self {
        Self::launch(job, &["run"], &[])
    }

    /// Until it is stopped, or a fault ends it.
    pub fn with_fault(job: &Job, fault: &str) -> Self {
        Self::launch(job, &["run"], &[("TRIPLINE_FAULT", fault)])
    }

    /// To the end of the topic.
    pub fn to_the_end(job: &Job) -> Self {
        Self::launch(job, &["run", "--until-end"], &[])
    }

    pub fn launch(job: &Job, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::of(job.command(arguments).envs(environment.iter().copied()))
    }

    /// A command whose streams are pipes.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (out, out_reader) = lines(child.stdout.take().unwrap());
        let (log, log_reader) = lines(child.stderr.take().unwrap());
        Self { child, out, log, readers: vec![out_reader, log_reader] }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    /// Until the log has this.
    pub fn wait_in_log(&mut self, text: &str) {
        self.wait(&format!("the log has {text:?}"), |run| run.times_in_log(text) > 0);
    }

    pub fn times_in_log(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Until something holds, while the run is there.
    pub fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut ended = None;
        wait_for(what, || {
            assert!(ended.is_none(), "the run ended before {what}: {ended:?}\n{}", self.log().join("\n"));
            ended = self.child.try_wait().unwrap();
            holds(self).then_some(())
        });
    }

    /// Until a fault has stopped it, as SIGSTOP does.
    pub fn wait_stopped(&mut self) {
        self.wait("it has stopped itself", |run| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.child.id())).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
    }

    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Until a fault has killed it.
    pub fn killed(self) -> Done {
        let done = self.ended();
        assert_eq!(done.status.signal(), Some(9), "{done}");
        done
    }

    /// SIGTERM, which has to end it well.
    pub fn terminate(self) -> Done {
        self.signal("TERM");
        let done = self.ended();
        assert_eq!(done.code(), Some(0), "{done}");
        done
    }

    pub fn kill(self) -> Done {
        self.signal("KILL");
        self.killed()
    }

    /// Waits for the end, however it comes.
    pub fn ended(mut self) -> Done {
        let log = Arc::clone(&self.log);
        let mut looks = 0;
        let status = wait_for("the run ends", || {
            looks += 1;
            if looks == 1_100 {
                eprintln!("--- the run does not end:\n{}", log.lock().unwrap().join("\n"));
            }
            self.child.try_wait().unwrap()
        });
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        Done { status, out: self.out(), log: self.log() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() && std::thread::panicking() {
            eprintln!("--- a run's log\n{}", self.log().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    (lines, reader)
}

/// The output of a run.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub out: Vec<String>,
    pub log: Vec<String>,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\n--- output\n{}\n--- log\n{}", self.status, self.out.join("\n"), self.log.join("\n"))
    }
}

impl Done {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks that the run succeeded.
    pub fn well(self) -> Self {
        assert_eq!(self.code(), Some(0), "{self}");
        self
    }

    /// Checks that the run ended with this code and one message, which has these parts.
    pub fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        let first = self.log.iter().position(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{self}"));
        let message = self.log[first..].join("\n");
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        assert!(!message.contains("panicked"), "{message}");
        self
    }

    /// The log says this.
    pub fn said(self, part: &str) -> Self {
        assert!(self.log.iter().any(|line| line.contains(part)), "no {part:?}: {self}");
        self
    }

    /// One number of the closing line of a run to the end.
    pub fn count(&self, name: &str) -> u64 {
        let line = self.out.last().unwrap_or_else(|| panic!("{self}"));
        let counts: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{self}"));
        counts[name].as_u64().unwrap_or_else(|| panic!("no {name}: {self}"))
    }
}
