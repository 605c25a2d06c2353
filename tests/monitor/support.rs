//! A world around the monitor: topic, table, sinks and a folder that outlive it, on virtual time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use tempfile::TempDir;
use tripline::alert::Alert;
use tripline::change::{Change, Op};
use tripline::checkpoint::disk::{Disk, RealDisk};
use tripline::checkpoint::{self, Folder};
use tripline::clock::{Clock as _, TokioClock};
use tripline::episode::Status;
use tripline::fakes::sinks::MemorySinks;
use tripline::fakes::table::{MemoryConfirm, MemoryTable, transactions};
use tripline::fakes::topic::{MemorySource, MemoryTopic};
use tripline::job::JobError;
use tripline::model::{Key, Lsn, Timestamp, Value};
use tripline::monitor::counts::Counts;
use tripline::monitor::{Monitor, Settings};
use tripline::progress::StartAt;
use tripline::rule::message::Template;
use tripline::rule::watched::Watched;
use tripline::rule::{Confirm, Rule, Time, compile, parse};
use tripline::unit::stored::Decisions;

pub(crate) type Epoch = tripline::progress::Epoch<Decisions>;

pub(crate) const GROUP: &str = "monitor-v3";
pub(crate) const TOPIC: &str = "postgres.public.transactions";
pub(crate) const SPEND: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total \
     FROM public.transactions WHERE created_at >= NOW() - INTERVAL '7 days' \
     GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

/// One line of what was delivered: user and status.
pub(crate) type Told = (i64, Status);

pub(crate) fn firing(user: i64) -> Told {
    (user, Status::Firing)
}

pub(crate) fn resolved(user: i64) -> Told {
    (user, Status::Resolved)
}

pub(crate) fn told(alert: &Alert) -> Told {
    match alert.key {
        Key::Int(user) => (user, alert.status),
        Key::Values(_) => panic!("{alert:?}"),
    }
}

pub(crate) fn rule(name: &str, sql: &str) -> Rule {
    let query = compile::compile(&parse::parse(sql).unwrap(), &transactions()).unwrap();
    Rule {
        name: name.into(),
        version: compile::version(&query, Time::Processing, Confirm::Required),
        severity: "critical".into(),
        message: Template::parse("User {user_id} (${total})", &["user_id", "transactions", "total"]).unwrap(),
        time: Time::Processing,
        confirm: Confirm::Required,
        query,
    }
}

pub(crate) type TestMonitor = Monitor<MemorySource, MemoryConfirm, MemorySinks, TokioClock>;

/// Everything that outlives a monitor.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) topic: MemoryTopic,
    pub(crate) db: MemoryTable,
    pub(crate) sinks: MemorySinks,
    pub(crate) clock: TokioClock,
    pub(crate) rules: Vec<Rule>,
    pub(crate) settings: Settings,
    /// Rows are spread over this many partitions, by their id.
    spread: i64,
    lsn: std::cell::Cell<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(1)
    }

    pub(crate) fn of(partitions: i32) -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let topic = MemoryTopic::new(partitions);
        Self {
            dir: dir.unwrap(),
            disk: Arc::new(RealDisk),
            sinks: MemorySinks::new(&topic, GROUP),
            topic,
            db: MemoryTable::default(),
            // 2026-11-22T10:00:00Z
            clock: TokioClock::starting_at(Timestamp(1_795_341_600_000_000)),
            rules: vec![rule("weekly-spend", SPEND)],
            settings: Settings {
                group: GROUP.into(),
                topics: TOPIC.into(),
                start_at: StartAt::Earliest,
                resume_without_group: false,
                carry_episodes: true,
                trigger_interval: Duration::from_secs(1),
                state_interval: Duration::from_secs(30),
                keys_per_statement: 100,
                statements_max: 4,
                sweep_interval: None,
                audit_period: Duration::from_secs(600),
                max_database_share: 1_000_000,
                rows_max: None,
                rss_max_mb: None,
                stop_on_bad_record: false,
                until_end: true,
            },
            spread: i64::from(partitions),
            lsn: std::cell::Cell::new(1_000),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn row(user: i64, amount: &str, at: Timestamp) -> Box<[Value]> {
        let mut amount: Decimal = amount.parse().unwrap();
        amount.rescale(2);
        Box::new([Value::Int(user), Value::Decimal(amount.mantissa()), Value::Time(at)])
    }

    pub(crate) fn change(&self, op: Op, id: i64, row: Option<Box<[Value]>>) -> Change {
        self.lsn.set(self.lsn.get() + 8);
        Change {
            op,
            pk: Some(Key::Int(id)),
            row,
            before: None,
            lsn: Some(Lsn(self.lsn.get())),
            tx_id: Some(u32::try_from(id).unwrap()),
            committed_at: Some(self.now()),
            holes: Vec::new(),
        }
    }

    /// An INSERT or UPDATE, in the table and on the topic's partition of the row.
    pub(crate) fn write(&self, op: Op, id: i64, user: i64, amount: &str) -> i64 {
        self.db.put(Key::Int(id), Self::row(user, amount, self.now()));
        self.stream(op, id, user, amount, self.now())
    }

    /// On the topic only: the table does not have it (yet).
    pub(crate) fn stream(&self, op: Op, id: i64, user: i64, amount: &str, at: Timestamp) -> i64 {
        self.topic.push(self.partition_of(id), self.change(op, id, Some(Self::row(user, amount, at))))
    }

    /// In the table only.
    pub(crate) fn put(&self, id: i64, user: i64, amount: &str, at: Timestamp) {
        self.db.put(Key::Int(id), Self::row(user, amount, at));
    }

    pub(crate) fn create(&self, id: i64, user: i64, amount: &str) -> i64 {
        self.write(Op::Create, id, user, amount)
    }

    pub(crate) fn create_at(&self, id: i64, user: i64, amount: &str, at: Timestamp) -> i64 {
        self.put(id, user, amount, at);
        self.stream(Op::Create, id, user, amount, at)
    }

    pub(crate) fn update(&self, id: i64, user: i64, amount: &str) -> i64 {
        self.write(Op::Update, id, user, amount)
    }

    /// Deletes a row, as under REPLICA IDENTITY DEFAULT: a record with nothing but the primary key, then the tombstone.
    pub(crate) fn delete(&self, id: i64) {
        self.db.delete(&Key::Int(id));
        let partition = self.partition_of(id);
        self.topic.push(partition, self.change(Op::Delete, id, None));
        self.tombstone(id);
    }

    /// A key and nothing else.
    pub(crate) fn tombstone(&self, id: i64) {
        let tombstone = Change { lsn: None, tx_id: None, committed_at: None, ..self.change(Op::Tombstone, id, None) };
        self.topic.push(self.partition_of(id), tombstone);
    }

    fn partition_of(&self, id: i64) -> i32 {
        i32::try_from(id % self.spread).unwrap()
    }

    pub(crate) fn try_folder(&self) -> Result<Folder, checkpoint::CheckpointError> {
        Folder::open_on(Arc::clone(&self.disk), self.dir.path(), &self.settings.group)
    }

    pub(crate) fn folder(&self) -> Folder {
        self.try_folder().unwrap()
    }

    pub(crate) fn folder_path(&self) -> std::path::PathBuf {
        self.dir.path().join(&self.settings.group)
    }

    pub(crate) fn lose_folder(&self) {
        std::fs::remove_dir_all(self.folder_path()).unwrap();
    }

    /// Ids of the lineages that were moved aside.
    pub(crate) fn aside(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder_path().join("lineages")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        self.folder().epochs_after(None).unwrap()
    }

    pub(crate) fn lineage(&self) -> String {
        self.folder().lineage().unwrap().unwrap().id
    }

    /// The group's next offset on partition 0.
    pub(crate) fn committed(&self) -> i64 {
        self.topic.committed(&self.settings.group)[&0].0.0
    }

    pub(crate) fn monitor(&self) -> TestMonitor {
        self.monitor_of(MemorySource::join(&self.topic, &self.settings.group))
    }

    pub(crate) fn monitor_of(&self, source: MemorySource) -> TestMonitor {
        self.monitor_on(source, self.folder())
    }

    pub(crate) fn monitor_on(&self, source: MemorySource, folder: Folder) -> TestMonitor {
        let wanted = compile::wanted(&self.rules.iter().map(|rule| &rule.query).collect::<Vec<_>>());
        Monitor {
            settings: self.settings.clone(),
            rules: self.rules.clone(),
            source,
            confirm: MemoryConfirm::new(&self.db, &self.rules, &wanted),
            tables: Watched::one(&self.rules, &wanted),
            sinks: self.sinks.of(&self.settings.group),
            clock: self.clock,
            folder,
            gauge: Arc::default(),
            status: Arc::default(),
            counts: Counts::default(),
            contracts: self.db.contract().into(),
            changes: Vec::new(),
        }
    }

    /// `tripline run --until-end`.
    pub(crate) async fn try_read(&self) -> Result<Counts, JobError> {
        let folder = self.try_folder()?;
        let mut monitor = self.monitor_on(MemorySource::join(&self.topic, &self.settings.group), folder);
        assert!(monitor.settings.until_end);
        let run = monitor.run(std::future::pending());
        tokio::time::timeout(Duration::from_secs(36_000), run).await.expect("the run does not end")
    }

    pub(crate) async fn read(&self) -> Counts {
        self.try_read().await.unwrap()
    }

    pub(crate) async fn error(&self) -> String {
        self.try_read().await.expect_err("the run should have ended with an error").to_string()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.sinks.alerts().iter().map(told).collect()
    }

    #[track_caller]
    pub(crate) fn want(&self, want: &[Told]) {
        assert_eq!(self.told(), want);
    }
}
