//! A Kafka cluster as its operator has it in his hands: records, topics, and the offsets of groups.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{Record, Stack, wait_for};

const CALL: Duration = Duration::from_secs(10);

type Admin = AdminClient<DefaultClientContext>;

pub struct Cluster {
    pub bootstrap: String,
    // Made once: connecting takes longer than what they are for.
    reader: OnceCell<BaseConsumer>,
    writer: OnceCell<BaseProducer>,
}

impl Cluster {
    /// The one that all tests use.
    pub fn shared() -> Self {
        Self::at(Stack::get().bootstrap.clone())
    }

    pub fn at(bootstrap: String) -> Self {
        Self { bootstrap, reader: OnceCell::new(), writer: OnceCell::new() }
    }

    fn reader(&self) -> &BaseConsumer {
        self.reader.get_or_init(|| self.consumer("tests"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed").create().unwrap()
    }

    /// Runs a request of an administrator until it is done.
    fn administer<T>(&self, request: impl AsyncFnOnce(Admin, AdminOptions) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL));
        runtime.block_on(async { request(self.client().create().unwrap(), options).await })
    }

    /// The cluster's id.
    pub fn id(&self) -> String {
        wait_for("the cluster tells its id", || self.reader().client().fetch_cluster_id(CALL))
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// With these settings of its own.
    pub fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        wait_for("the topic is made", || {
            let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            new.config = settings.to_vec();
            let made = self.administer(async |admin, options| admin.create_topics(&[new], &options).await);
            made.ok()?.pop()?.ok()
        });
        self.wait_for_partitions(topic, partitions);
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) {
        let wanted = usize::try_from(partitions).unwrap();
        wait_for("the topic has its partitions", || (self.partitions(topic) == wanted).then_some(()));
        for partition in 0..partitions {
            self.watermarks(topic, partition);
        }
    }

    pub fn delete_topic(&self, topic: &str) {
        let gone = self.administer(async |admin, options| admin.delete_topics(&[topic], &options).await);
        gone.unwrap().pop().unwrap().unwrap();
        wait_for("the topic is gone", || (self.partitions(topic) == 0).then_some(()));
    }

    pub fn add_partitions(&self, topic: &str, partitions: i32) {
        let wanted = NewPartitions::new(topic, usize::try_from(partitions).unwrap());
        let made = self.administer(async |admin, options| admin.create_partitions(&[wanted], &options).await);
        made.unwrap().pop().unwrap().unwrap();
        self.wait_for_partitions(topic, partitions);
    }

    /// Removes the records before this offset, as retention does.
    pub fn truncate(&self, topic: &str, partition: i32, low: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
        self.administer(async |admin, options| admin.delete_records(&list, &options).await).unwrap();
        wait_for("the records are gone", || (self.watermarks(topic, partition).0 == low).then_some(()));
    }

    /// Waits until it has no member.
    pub fn delete_group(&self, group: &str) {
        wait_for("the group is deleted", || {
            let gone = self.administer(async |admin, options| admin.delete_groups(&[group], &options).await);
            gone.ok()?.pop()?.ok()
        });
    }

    /// The number of the topic's partitions. 0 if it does not exist.
    pub fn partitions(&self, topic: &str) -> usize {
        // Of all topics: to ask for one by name makes it.
        let metadata = wait_for("the cluster answers", || self.reader().fetch_metadata(None, CALL).ok());
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        found.map_or(0, |found| found.partitions().len())
    }

    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        wait_for("the partition has a leader", || self.reader().fetch_watermarks(topic, partition, CALL).ok())
    }

    /// Appends records, in order. The topic is made with the first.
    pub fn produce(&self, topic: &str, partition: i32, records: &[Record]) {
        let make = || self.client().set("enable.idempotence", "true").set("linger.ms", "0").create().unwrap();
        let producer = self.writer.get_or_init(make);
        // It may not know the newest partitions; and a topic is made by asking for it.
        wait_for("the partition is known", || {
            let metadata = producer.client().fetch_metadata(Some(topic), CALL).ok()?;
            (metadata.topics()[0].partitions().len() > usize::try_from(partition).unwrap()).then_some(())
        });
        for record in records {
            let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
            out.key = record.key.as_deref();
            out.payload = record.value.as_deref();
            producer.send(out).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(CALL).unwrap();
    }

    /// The records that a reader of committed records finds in all partitions. Empty if the topic does not exist.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        // A client that has seen a cluster without brokers can be of no use for minutes.
        let found = self.try_records(self.reader(), topic);
        found.unwrap_or_else(|| {
            wait_for(&format!("{topic} is read"), || self.try_records(&self.consumer("tests"), topic))
        })
    }

    fn try_records(&self, consumer: &BaseConsumer, topic: &str) -> Option<Vec<Record>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            list.add_partition_offset(topic, i32::try_from(partition).unwrap(), Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let deadline = Instant::now() + CALL;
        let (mut records, mut left) = (Vec::new(), list.count());
        while left > 0 {
            if Instant::now() > deadline {
                return None;
            }
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                None | Some(Err(_)) => {}
                Some(Ok(message)) => {
                    let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
                    records.push(Record { key, value, headers: Vec::new() });
                }
            }
        }
        consumer.unassign().unwrap();
        Some(records)
    }

    /// The group's next offsets and the text that was committed with each, by partition. A transaction that is under way
    /// is no hindrance, and does not count.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, (i64, String)> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            list.add_partition(topic, i32::try_from(partition).unwrap());
        }
        let consumer: BaseConsumer =
            self.client().set("group.id", group).set("isolation.level", "read_uncommitted").create().unwrap();
        let list = wait_for("the coordinator answers", || consumer.committed_offsets(list.clone(), CALL).ok());
        let found = list.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(next) => Some((element.partition(), (next, element.metadata().to_owned()))),
            _ => None,
        });
        found.collect()
    }

    /// Commits for a group that has no member, without any text, as Kafka's own tool does.
    pub fn set_by_hand(&self, group: &str, topic: &str, next: &[(i32, i64)]) {
        self.set_with_text(group, topic, next, "");
    }

    /// Commits for a group that has no member, with this text.
    pub fn set_with_text(&self, group: &str, topic: &str, next: &[(i32, i64)], text: &str) {
        let mut list = TopicPartitionList::new();
        for (partition, next) in next {
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(*next)).unwrap();
            element.set_metadata(text);
        }
        let consumer = self.consumer(group);
        wait_for("the group can be set by hand", || consumer.commit(&list, CommitMode::Sync).ok());
    }
}
