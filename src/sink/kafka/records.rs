//! What records look like: CloudEvents for alerts, place and reason for dead letters.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::episode::Status;

/// Bytes of a dead letter's key and value that are copied. With its headers a record at the broker's own limit of 1 MB
/// would no longer fit, and would be refused at every start; its place says where the whole of it is.
const LETTER_KEY_MAX: usize = 64 * 1024;
const LETTER_VALUE_MAX: usize = 768 * 1024;

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}

/// The attributes of CloudEvents 1.0 as headers (Kafka protocol binding, binary content mode).
pub(super) fn cloud_event(alert: &Alert, group: &str) -> OwnedHeaders {
    let kind = match alert.status {
        Status::Firing => "tripline.alert.firing.v1",
        Status::Resolved => "tripline.alert.resolved.v1",
    };
    let (id, source, time) = (alert.id.to_string(), format!("tripline/{group}"), alert.emitted_at.rfc3339());
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_source", source.as_str()),
        ("ce_type", kind),
        ("ce_subject", alert.record_key.as_str()),
        ("ce_time", time.as_str()),
        ("content-type", "application/json"),
    ];
    let insert = |all: OwnedHeaders, (key, value)| all.insert(Header { key, value: Some(value) });
    headers.into_iter().fold(OwnedHeaders::new(), insert)
}

/// A record that was not understood, with its own headers and why.
pub(super) fn letter<'a>(topic: &'a str, letter: &'a DeadLetter) -> FutureRecord<'a, [u8], [u8]> {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(letter_headers(letter));
    if let Some(key) = &letter.key {
        record = record.key(cut(key, LETTER_KEY_MAX));
    }
    if let Some(value) = &letter.value {
        record = record.payload(cut(value, LETTER_VALUE_MAX));
    }
    record
}

fn letter_headers(letter: &DeadLetter) -> OwnedHeaders {
    let own = letter
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }));
    let place = [
        ("tripline_partition", letter.position.partition.to_string()),
        ("tripline_offset", letter.position.offset.to_string()),
        ("tripline_reason", letter.reject.detail.clone()),
        ("tripline_kind", letter.reject.kind.as_str().to_owned()),
        ("tripline_value_bytes", letter.value.as_ref().map_or(0, Vec::len).to_string()),
    ];
    place.iter().fold(own, |all, (key, value)| all.insert(Header { key, value: Some(value.as_str()) }))
}
