//! The demo: the main job on servers that the demo starts itself.
//!
//! - this file: the course of a demo, and its cleanup
//! - [`seen`]: counts of the alerts so far
//! - [`summary`]: the result, pure

pub mod seen;
pub mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::producer::FutureProducer;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::run::prepare;
use crate::checkpoint::Folder;
use crate::config::{self, Config};
use crate::demo::binaries::{self, Binaries};
use crate::demo::bridge::Bridge;
use crate::demo::broker::Broker;
use crate::demo::place::{Cache, Place};
use crate::demo::server::Server;
use crate::demo::shoppers::{self, Script};
use crate::demo::sinks::PlainSinks;
use crate::demo::{DemoError, Done, GROUP, TOPIC};
use crate::failure::{Exit, Failure};
use crate::job::JobError;
use crate::kafka::group::Membership;
use crate::monitor::counts::Counts;
use crate::run_status::RunStatus;
use crate::source::kafka::KafkaSource;
use seen::Seen;
use summary::Summary;

/// How often the display is updated.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// How long the pipeline may take at the end to process the last purchases.
const CATCH_UP: Duration = Duration::from_secs(30);

/// The rules in the form of a configuration.
const RULES: &str = include_str!("../demo/rules.toml");

/// The settings of a demo.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How long purchases are simulated.
    pub duration: Duration,
    /// Whether to download PostgreSQL even if this machine has it.
    pub fetch: bool,
}

/// The display of a demo while it runs.
pub trait Show {
    /// Prints a permanent line.
    fn line(&mut self, line: &str);
    /// Prints what is real in the demo, and what is a substitute.
    fn intro(&mut self, binaries: &Binaries, place: &Place, server: &Server, broker: &Broker);
    /// Prints the address of the page.
    fn page(&mut self, address: &str);
    /// Says that purchases begin, and how long they go on.
    fn buying(&mut self, started: Instant, duration: Duration);
    /// Prints the new events and the current status.
    fn draw(&mut self, status: &RunStatus, done: &Done, program_began: Instant);
    /// The counts of the alerts so far.
    fn seen(&self) -> &Seen;
    /// Removes the status at the end.
    fn clear(&mut self);
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

/// Runs the demo. `None`: it was asked to stop before it had begun.
///
/// # Errors
/// A [`Failure`] with the exit code of the process.
pub async fn run(request: Request, console: &mut impl Show) -> Result<Option<Summary>, Failure> {
    let began = Instant::now();
    let stop = stopped().boxed().shared();

    let place = Place::make()?;
    let binaries = tokio::select! {
        found = find(request.fetch, &place, console) => found?,
        () = stop.clone() => return Ok(None),
    };
    let server = Server::start(&place, &binaries).await?; // not given up half-way: it cleans up behind itself
    let broker = Broker::start()?;
    let mut connection = server.connect().await?;
    shoppers::migrate(&mut connection, &server).await?;
    let producer: FutureProducer = broker.producer().create().map_err(DemoError::from)?;
    let bridge = Bridge::new(server.connect().await?, producer).await?;
    console.intro(&binaries, &place, &server, &broker);

    let config = configuration(&place, &server, &broker)?;
    let job = prepare(&config, false).await?;
    let web = job.web().await?; // it ends with the demo
    if let Some(web) = &web {
        console.page(&format!("http://{}/", web.address()));
    }
    let folder = Folder::open(&config.checkpoint.dir, GROUP).map_err(JobError::from)?;
    place.give(&config.checkpoint.dir)?;
    let membership = Membership { group: GROUP.to_owned(), instance: None };
    let source = KafkaSource::join(&job.cluster, membership, job.topics.clone(), None)?;
    let sinks = PlainSinks::new(source.committer());

    let done = Arc::<Done>::default();
    let mut stage = Stage {
        status: Arc::clone(&job.status),
        connection,
        done: Arc::clone(&done),
        bridge: tokio::spawn(bridge.run(Arc::clone(&done))),
        shoppers: None,
        console,
        began,
        stop: stop.clone(),
    };
    let (end, ended) = oneshot::channel();
    let mut work = std::pin::pin!(job.drive(source, sinks, folder, Counts::default(), Vec::new(), ended.map(drop)));
    let shown = tokio::select! {
        early = work.as_mut() => Err(early.ended.err().map_or_else(
            || Failure::new(Exit::Failed, "the pipeline ended before its time"),
            Failure::from,
        )),
        shown = stage.run(&config, &server, request.duration) => {
            let _ = end.send(());
            let worked = work.as_mut().await.ended;
            shown.and_then(|summary| worked.map(|()| summary).map_err(Failure::from))
        }
    };
    stage.end().await;
    stage.console.clear();
    shown.map(Some)
}

/// Finds PostgreSQL's programs on this machine or in the cache, or downloads them.
async fn find(fetch: bool, place: &Place, console: &mut impl Show) -> Result<Binaries, Failure> {
    let here = if fetch { None } else { binaries::on_this_machine() };
    if let Some(found) = here {
        return Ok(found);
    }
    let Cache { folder: cache, is_kept } = place.cache();
    if let Some(found) = binaries::fetched_before(&cache) {
        return Ok(found);
    }
    console.line(if is_kept { "Fetching PostgreSQL (about 15 MB, once)" } else { "Fetching PostgreSQL (about 15 MB)" });
    let began = Instant::now();
    let (found, bytes) =
        binaries::fetch(&cache).await.map_err(|error| Failure::new(Exit::Unreachable, error.to_string()))?;
    let (megabytes, seconds) = (bytes / 1_000_000, began.elapsed().as_secs());
    let kept = if is_kept {
        format!("kept in {}", cache.display())
    } else {
        "removed at the end: set HOME or XDG_CACHE_HOME to a folder that can be written to keep it".to_owned()
    };
    if !is_kept {
        place.give(&cache)?;
    }
    console.line(&format!("Fetched {megabytes} MB in {seconds} s, {kept}"));
    Ok(found)
}

/// Writes the configuration into the demo's folder as a user would, and reads it.
fn configuration(place: &Place, server: &Server, broker: &Broker) -> Result<Config, Failure> {
    let file = place.path().join("tripline.toml");
    let text = format!(
        "[kafka]\nbootstrap_servers = \"{broker}\"\ngroup_id = \"{GROUP}\"\n\
         [kafka.properties]\n\"fetch.wait.max.ms\" = 10\n\"session.timeout.ms\" = 45000\n\
         [source]\ntopic = \"{TOPIC}\"\ndecimals = \"string\"\n\
         [postgres]\nurl = \"{url}\"\n\
         [checkpoint]\ndir = \"{dir}\"\n\
         [web]\nlisten = \"127.0.0.1:0\"\n\
         [alerts.log]\n\n{RULES}",
        broker = broker.address(),
        url = server.url("tripline"),
        dir = place.path().join("checkpoints").display(),
    );
    write_secret(&file, &text).map_err(|error| DemoError::file(&file, &error))?;
    config::load(&file, []).map_err(|error| Failure::new(Exit::Misconfigured, error.to_string()))
}

fn write_secret(file: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}

/// Returns when the process gets a signal to stop, or when its terminal is gone.
async fn stopped() {
    let hung_up = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = crate::host::stopped() => {}
        () = hung_up => {}
    }
}

type Stop = futures_util::future::Shared<futures_util::future::BoxFuture<'static, ()>>;

/// The tasks and the display beside the pipeline.
struct Stage<'s, S> {
    status: Arc<RunStatus>,
    connection: PgConnection,
    done: Arc<Done>,
    bridge: JoinHandle<Result<(), DemoError>>,
    shoppers: Option<JoinHandle<Result<(), DemoError>>>,
    console: &'s mut S,
    began: Instant,
    stop: Stop,
}

impl<S: Show> Stage<'_, S> {
    async fn run(&mut self, config: &Config, server: &Server, seconds: Duration) -> Result<Summary, Failure> {
        let viewer = self.status.viewer();
        shoppers::remember(&mut self.connection, &self.done).await?;
        let history = self.done.changed.load(Ordering::Relaxed);
        let ended = self.watch(CATCH_UP, |read| read >= history).await?;
        if !ended {
            self.console.line("The week before has been read. From here on people buy:");
            let buying = shoppers::run(server.connect().await?, Script::new(1), Arc::clone(&self.done));
            self.shoppers = Some(tokio::spawn(buying));
            let started = Instant::now();
            self.console.buying(started, seconds);
            self.watch(seconds, |_| false).await?;
        }
        if let Some(shoppers) = self.shoppers.take() {
            // The task is not aborted, because every row has to be counted.
            self.done.closed.store(true, Ordering::Relaxed);
            if let Err(failed) = shoppers.await.map_err(|error| DemoError::new(error.to_string())).flatten() {
                return Err(failed.into());
            }
        }
        self.console.line("The shops are closed; what is under way is waited for.");
        let open_in_sql = self.settle(config).await?;
        drop(viewer);
        let (snapshot, changed) = (self.status.snapshot(), self.done.changed.load(Ordering::Relaxed));
        Ok(Summary::new(snapshot, changed, self.console.seen().clone(), open_in_sql))
    }

    /// Updates the display until `until` is true for the number of records read, or the time is over. Returns whether
    /// the process got a signal to stop.
    async fn watch(&mut self, limit: Duration, until: impl Fn(u64) -> bool) -> Result<bool, Failure> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.console.draw(&self.status, &self.done, self.began);
            if until(self.status.snapshot().read) {
                return Ok(false);
            }
            let shoppers = async {
                match &mut self.shoppers {
                    Some(shoppers) => shoppers.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.clone() => return Ok(true),
                failed = &mut self.bridge => return Err(why("the bridge", failed)),
                failed = shoppers => return Err(why("the shoppers", failed)),
                () = tokio::time::sleep(DRAWN_EVERY.min(deadline.duration_since(Instant::now()))) => {}
            }
        }
        Ok(false)
    }

    /// Waits until everything is read and confirmed and the rules' own queries agree with the open alerts. Returns the
    /// keys that the queries find, by rule.
    async fn settle(&mut self, config: &Config) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            self.console.draw(&self.status, &self.done, self.began);
            let found = holding(&mut self.connection, config).await?;
            let snapshot = self.status.snapshot();
            let behind = snapshot.read < self.done.changed.load(Ordering::Relaxed) || snapshot.waiting > 0;
            if (!behind && *self.console.seen().open() == found) || Instant::now() > deadline {
                return Ok(found);
            }
            if self.bridge.is_finished() {
                return Err(why("the bridge", (&mut self.bridge).await));
            }
            tokio::time::sleep(DRAWN_EVERY).await;
        }
    }

    /// Ends the tasks before the broker, since clients without a broker log errors.
    async fn end(&mut self) {
        for task in self.shoppers.iter_mut().chain([&mut self.bridge]).filter(|task| !task.is_finished()) {
            task.abort();
            let _ = task.await;
        }
    }
}

fn why(who: &str, ended: Result<Result<(), DemoError>, tokio::task::JoinError>) -> Failure {
    let why = match ended {
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
        Ok(Ok(())) => "no reason was given".to_owned(),
    };
    Failure::new(Exit::Failed, format!("{who} ended: {why}"))
}

/// Runs each rule's query and returns the keys that it finds.
async fn holding(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<BTreeMap<String, BTreeSet<String>>, DemoError> {
    let mut found = BTreeMap::new();
    for rule in &config.rules {
        let sql = format!("select user_id::text from ({}) as rule", rule.sql);
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
        let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>()?;
        if !keys.is_empty() {
            found.insert(rule.name.clone(), keys);
        }
    }
    Ok(found)
}
