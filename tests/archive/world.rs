//! A world around the archive: a topic, a disk and a dead-letter topic that outlive it, on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use tripline::archive::names::{Date, FileName};
use tripline::archive::open_batch::Limits;
use tripline::archive::output::{self, Entry, Output};
use tripline::archive::{Archive, Counts, Settings};
use tripline::change::Op;
use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::checkpoint::Folder;
use tripline::checkpoint::disk::Disk;
use tripline::clock::TokioClock;
use tripline::fakes::disk::MemoryDisk;
use tripline::fakes::sinks::MemoryDeadLetters;
use tripline::fakes::topic::{MemorySource, MemoryTopic};
use tripline::job::JobError;
use tripline::model::{Lsn, Timestamp};
use tripline::progress::StartAt;

pub const GROUP: &str = "food_orders_consumer_group";
pub const TOPIC: &str = "orders";
pub const CHECKPOINT: &str = "/checkpoints/orders";
pub const OUTPUT: &str = "/output/records";

const DAY: i64 = 86_400_000_000;
/// 2026-11-20
const FIRST_DAY: i64 = 1_795_132_800_000_000;

/// A record's place: partition and offset.
pub type Place = (i32, i64);

pub struct World {
    pub topic: MemoryTopic<FullRowChange>,
    pub disk: MemoryDisk,
    pub dead_letters: MemoryDeadLetters,
    pub settings: Settings,
    /// The date of every row that was pushed.
    pub expected: BTreeMap<Place, String>,
    fields: Arc<[Field]>,
}

impl World {
    pub fn new() -> Self {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        Self {
            topic: MemoryTopic::new(2),
            disk: MemoryDisk::default(),
            dead_letters: MemoryDeadLetters::default(),
            settings: Settings {
                group: GROUP.to_owned(),
                topic: TOPIC.to_owned(),
                start_at: StartAt::Earliest,
                reprocess_without_group: false,
                limits: Limits { records: 1_000, memory: usize::MAX, partition_by: None },
                trigger_interval: Duration::from_secs(5),
                stop_on_bad_record: false,
                until_end: true,
            },
            expected: BTreeMap::new(),
            fields: [field("order_id", FieldType::Int64), field("created_at", FieldType::TimestampTz)].into(),
        }
    }

    /// From here on rows have one more column.
    pub fn widen(&mut self) {
        let more = Field { name: "tip".to_owned(), ty: FieldType::Int32 };
        self.fields = self.fields.iter().cloned().chain([more]).collect();
    }

    /// An order that was made on this day, in a change that was committed a day later.
    pub fn push(&mut self, partition: i32, op: Op, order: i64, day: i64) {
        let created = FIRST_DAY + day * DAY;
        let mut cells = vec![Cell::Int(order), if op == Op::Delete { Cell::Null } else { Cell::Int(created) }];
        cells.resize(self.fields.len(), Cell::Int(5));
        let committed_at = Timestamp(created + DAY);
        let change = FullRowChange {
            op,
            lsn: Some(Lsn(7)),
            tx_id: Some(7),
            committed_at,
            is_described: false,
            fields: Arc::clone(&self.fields),
            cells: cells.into(),
        };
        let offset = self.topic.push(partition, change);
        let by_column = self.settings.limits.partition_by.is_some() && op != Op::Delete;
        let date = Date::of(if by_column { Timestamp(created) } else { committed_at }).unwrap();
        self.expected.insert((partition, offset), date.to_string());
    }

    pub fn archive(&self) -> Result<Archive<MemorySource<FullRowChange>, MemoryDeadLetters, TokioClock>, JobError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        Ok(Archive {
            settings: self.settings.clone(),
            source: MemorySource::join(&self.topic, &self.settings.group),
            dead_letters: self.dead_letters.clone(),
            clock: TokioClock::starting_at(Timestamp(FIRST_DAY)),
            folder: Folder::open_at(Arc::clone(&disk), CHECKPOINT.into())?,
            output: Output::open(disk, OUTPUT.into())?.expect("the output is not locked"),
            counts: Counts::default(),
            gauge: Arc::default(),
            believed: None,
        })
    }

    pub async fn try_read(&self) -> Result<Counts, JobError> {
        let mut archive = self.archive()?;
        let run = archive.run(std::future::pending());
        tokio::time::timeout(Duration::from_secs(36_000), run).await.expect("the run does not end")?;
        Ok(archive.counts)
    }

    pub async fn read(&self) -> Counts {
        self.try_read().await.unwrap()
    }

    pub async fn error(&self) -> String {
        self.try_read().await.expect_err("the run should have ended with an error").to_string()
    }

    /// Reads to the end, or dies after so many polls. Whether it came to the end.
    pub async fn read_or_die(&self, polls: usize) -> bool {
        let mut archive = self.archive().unwrap();
        let run = Box::pin(archive.run(std::future::pending()));
        tokio::time::timeout(Duration::from_secs(36_000), Dies { run, polls }).await.expect("the run ends").is_some()
    }

    /// The place and date of every row in the output, as a reader that lists it sees them.
    pub fn rows(&self) -> Vec<(Place, String)> {
        let mut rows = Vec::new();
        if !self.disk.exists(Path::new(OUTPUT)).unwrap() {
            return rows;
        }
        let mut files = Vec::new();
        let sort = |entry| match entry {
            Entry::File(file) => files.push(file),
            Entry::Stranger(path) => assert!(path.contains("merged"), "{path}"),
        };
        output::each(&self.disk, Path::new(OUTPUT), sort).unwrap();
        for file in files {
            let path = Path::new(OUTPUT).join(file.date.folder()).join(file.name.to_string());
            for offset in offsets(&self.disk.read(&path).unwrap(), &file.name) {
                rows.push(((file.name.partition, offset), file.date.to_string()));
            }
        }
        rows.sort();
        rows
    }

    /// No row is there twice, nor one that is not in the topic.
    #[track_caller]
    pub fn check_no_duplicate(&self, seen: &str) {
        let rows = self.rows();
        let places: BTreeSet<Place> = rows.iter().map(|(place, _)| *place).collect();
        assert_eq!(places.len(), rows.len(), "a row is there twice: {seen}: {rows:?}");
        for (place, date) in rows {
            assert_eq!(self.expected.get(&place), Some(&date), "{place:?}: {seen}");
        }
    }

    /// Every row is there, once.
    #[track_caller]
    pub fn check_whole(&self, seen: &str) {
        let want: Vec<_> = self.expected.clone().into_iter().collect();
        assert_eq!(self.rows(), want, "{seen}");
    }

    pub fn lose_folder(&self) {
        if self.disk.exists(Path::new(CHECKPOINT)).unwrap() {
            remove_all(&self.disk, Path::new(CHECKPOINT));
        }
    }

    /// The group's committed offsets.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let committed = self.topic.committed(GROUP);
        committed.into_iter().map(|(partition, (next, _))| (partition, next.0)).collect()
    }
}

/// Reads the offsets of a file, whole.
fn offsets(bytes: &[u8], name: &FileName) -> Vec<i64> {
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).expect("a whole file");
    let schema = reader.metadata().file_metadata().schema_descr().clone();
    let column = |name: &str| schema.columns().iter().position(|column| column.name() == name).unwrap();
    let (partition, offset) = (column("partition"), column("offset"));
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    let read = rows.map(|row| {
        assert_eq!(row.get_int(partition).unwrap(), name.partition);
        row.get_long(offset).unwrap()
    });
    let offsets: Vec<i64> = read.collect();
    assert!(offsets.iter().all(|offset| (name.range.from.0..name.range.to.0).contains(offset)), "{name}: {offsets:?}");
    offsets
}

/// Removes a folder with all that is in it.
pub fn remove_all(disk: &MemoryDisk, path: &Path) {
    for name in disk.list(path).unwrap() {
        let inner = path.join(name);
        match disk.list(&inner) {
            Ok(_) => remove_all(disk, &inner),
            Err(_) => disk.remove(&inner).unwrap(),
        }
    }
    disk.remove_dir(path).unwrap();
}

struct Dies<F> {
    run: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Dies<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.run.as_mut().poll(cx).map(Some)
    }
}

/// The checkpoint folder becomes what it was on another disk.
pub fn restore_folder(disk: &MemoryDisk, from: &MemoryDisk) {
    remove_all(disk, Path::new(CHECKPOINT));
    copy_all(disk, from, Path::new(CHECKPOINT));
}

fn copy_all(disk: &MemoryDisk, from: &MemoryDisk, path: &Path) {
    use std::io::Write as _;
    disk.create_dir(path).unwrap();
    for name in from.list(path).unwrap() {
        let inner = path.join(name);
        match from.read(&inner) {
            Ok(bytes) => {
                let mut file = disk.create(&inner).unwrap();
                file.write_all(&bytes).unwrap();
                file.sync().unwrap();
            }
            Err(_) => copy_all(disk, from, &inner),
        }
    }
    disk.sync_dir(path).unwrap();
}
