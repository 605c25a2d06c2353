//! Kafka as the tests see it: single-partition topics, read and written directly.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::{PATIENCE, Stack, wait_for};

const CALL: Duration = Duration::from_secs(10);

/// One record of a topic, as its bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

impl Record {
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap_or_default()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap_or_default()).unwrap()
    }

    /// The headers as a producer takes them.
    pub fn owned_headers(&self) -> OwnedHeaders {
        let add = |all: OwnedHeaders, (key, value): &(String, String)| all.insert(Header { key, value: Some(value) });
        self.headers.iter().fold(OwnedHeaders::new(), add)
    }

    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers));
        assert!(found.next().is_none(), "{name} twice in {:?}", self.headers);
        value
    }
}

fn consumer(group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", &Stack::get().bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// The offset after the last record, or a transaction's marker. 0 for a topic that does not exist.
pub fn end_of(topic: &str) -> i64 {
    end_seen_by(&consumer("tests"), topic, 0)
}

fn end_seen_by(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    // A topic that has just been made is at first unknown to the broker's own metadata.
    let metadata = consumer.fetch_metadata(None, CALL).unwrap();
    if !metadata.topics().iter().any(|found| found.name() == topic) {
        return 0;
    }
    wait_for(&format!("{topic} has a leader"), || consumer.fetch_watermarks(topic, partition, CALL).ok()).1
}

/// Until the topic holds exactly so many records.
pub fn wait_for_end(topic: &str, records: i64) {
    let consumer = consumer("tests");
    wait_for(&format!("{topic} holds {records} records"), || {
        let end = end_seen_by(&consumer, topic, 0);
        assert!(end <= records, "{topic} holds {end} records, more than {records}");
        (end == records).then_some(())
    });
}

/// The committed records from an offset to the end. Empty for a topic that does not exist.
pub fn records(topic: &str, from: i64) -> Vec<Record> {
    records_of(topic, 0, from)
}

/// The same of another partition.
pub fn records_of(topic: &str, partition: i32, from: i64) -> Vec<Record> {
    let consumer = consumer("tests");
    let end = end_seen_by(&consumer, topic, partition);
    let mut records = Vec::new();
    if from >= end {
        return records;
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from)).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "{topic}: {} records after {PATIENCE:?}, not {end}", records.len());
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            // The last offsets may be a transaction's markers.
            Some(Err(KafkaError::PartitionEOF(_))) => return records,
            Some(message) => message.unwrap(),
        };
        let headers = message.headers().map(|headers| headers.iter().map(text).collect()).unwrap_or_default();
        records.push(Record {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        });
        if message.offset() + 1 >= end {
            return records;
        }
    }
}

fn text(header: Header<'_, &[u8]>) -> (String, String) {
    (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
}

/// Appends records, in order.
pub fn produce(topic: &str, records: &[Record]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &Stack::get().bootstrap)
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let before = end_of(topic);
    for record in records {
        let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).headers(record.owned_headers());
        if let Some(key) = &record.key {
            out = out.key(key);
        }
        if let Some(value) = &record.value {
            out = out.payload(value);
        }
        producer.send(out).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(CALL).unwrap();
    assert_eq!(end_of(topic), before + i64::try_from(records.len()).unwrap());
}

/// Removes the records before an offset, as retention does.
pub fn cut(topic: &str, low: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &Stack::get().bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(low)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    done.find_partition(topic, 0).unwrap().error().unwrap();
    assert_eq!(consumer("tests").fetch_watermarks(topic, 0, CALL).unwrap().0, low);
}

/// The next offset that a group has committed, if it has.
pub fn committed(group: &str, topic: &str) -> Option<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let list = consumer(group).committed_offsets(list, CALL).ok()?;
    match list.find_partition(topic, 0)?.offset() {
        Offset::Offset(next) => Some(next),
        _ => None,
    }
}
