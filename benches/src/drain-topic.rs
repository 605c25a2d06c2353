//! Reads a topic to its end with the client library and does nothing with it: the floor that a benchmark of
//! `tripline run` is held against.
//!
//! ```text
//! cargo run --release -p tripline-bench --bin drain-topic -- BOOTSTRAP TOPIC
//! ```

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic] = args.as_slice() else {
        return Err("usage: drain-topic BOOTSTRAP TOPIC".into());
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "drain-topic")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "2")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    let mut left = assignment.count();
    consumer.assign(&assignment)?;
    let (mut messages, mut bytes) = (0_u64, 0);
    while left > 0 {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) => {
                messages += 1;
                bytes += message.payload_len();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => return Err("nothing came for ten seconds".into()),
        }
    }
    println!("{messages} messages, {bytes} bytes");
    Ok(())
}
