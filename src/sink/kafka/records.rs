//! The format of records: CloudEvents for alerts, position and reason for dead letters.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::alert::Alert;
use crate::change::record::{DeadLetter, LETTER_HEADERS_MAX, LETTER_KEY_MAX, LETTER_VALUE_MAX, Whole, header_bytes};
use crate::episode::Status;
use crate::progress::Topics;
use crate::progress::topics::partition_of;

/// How much of an invalid record its dead letter copies, in bytes. A record of the broker's own limit of 1 MB would not
/// fit with the added headers and would be rejected at every start. The dead letter has the position of the complete
/// record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    key: usize,
    value: usize,
    headers: usize,
}

impl Copied {
    /// Whether only the record's position is copied.
    pub(super) fn is_least(self) -> bool {
        self.value == 0
    }
}

/// From the most to the least. The next one is used if the topic does not accept the one before.
pub(super) const COPIED: [Copied; 4] = [
    Copied { key: LETTER_KEY_MAX, value: LETTER_VALUE_MAX, headers: LETTER_HEADERS_MAX },
    Copied { key: 16 * 1024, value: 192 * 1024, headers: 16 * 1024 },
    Copied { key: 1024, value: 16 * 1024, headers: 1024 },
    Copied { key: 0, value: 0, headers: 0 },
];

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

/// The dead letter of an invalid record of the topic `source`: the record's own headers, the reason, and as much of the
/// record as is to be copied.
pub(super) fn letter<'a>(
    topic: &'a str,
    sources: &Topics,
    letter: &'a DeadLetter,
    copied: Copied,
) -> FutureRecord<'a, [u8], [u8]> {
    let headers = letter_headers(sources, letter, copied);
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
    if let Some(key) = &letter.key {
        record = record.key(cut(key, copied.key));
    }
    if let Some(value) = &letter.value {
        record = record.payload(cut(value, copied.value));
    }
    record
}

fn letter_headers(sources: &Topics, letter: &DeadLetter, copied: Copied) -> OwnedHeaders {
    let mut bytes = 0;
    let (mut all, mut left_out) = (OwnedHeaders::new(), letter.whole.headers.saturating_sub(letter.headers.len()));
    for (key, value) in &letter.headers {
        let more = header_bytes(key, value.as_deref());
        if bytes + more > copied.headers {
            left_out += 1;
            continue;
        }
        bytes += more;
        all = all.insert(Header { key, value: value.as_deref() });
    }
    let Whole { key, value, headers } = letter.whole;
    let cut: Vec<String> = [
        (key > copied.key).then(|| format!("key: {} of {key} bytes", copied.key)),
        (value > copied.value).then(|| format!("value: {} of {value} bytes", copied.value)),
        (left_out > 0).then(|| format!("headers: {left_out} of {headers} left out")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let lane = letter.position.partition;
    let place = [
        ("tripline_topic", sources.name(lane).to_owned()),
        ("tripline_partition", partition_of(lane).to_string()),
        ("tripline_offset", letter.position.offset.to_string()),
        ("tripline_reason", letter.reject.detail.clone()),
        ("tripline_kind", letter.reject.kind.as_str().to_owned()),
        ("tripline_value_bytes", value.to_string()),
    ];
    let cut = (!cut.is_empty()).then(|| ("tripline_cut", cut.join(", ")));
    let own = place.iter().chain(&cut);
    own.fold(all, |all, (key, value)| all.insert(Header { key, value: Some(value.as_str()) }))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;
    use crate::change::{Reject, RejectKind};
    use crate::model::Position;

    /// The size of a copied record in bytes, and the header that says what was cut.
    fn size(letter: &DeadLetter, copied: Copied) -> (usize, Option<String>) {
        let record = super::letter("dead", &Topics::from("changes"), letter, copied);
        let headers = record.headers.unwrap();
        let header =
            |header: rdkafka::message::Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
        let bytes: usize = headers.iter().map(header).sum();
        let cut = headers.iter().find(|header| header.key == "tripline_cut").and_then(|header| header.value);
        let bytes = bytes + record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        (bytes, cut.map(|cut| String::from_utf8(cut.to_vec()).unwrap()))
    }

    #[test]
    fn a_dead_letter_fits_whatever_the_record_holds() {
        let letter = |key: usize, value: usize, headers: usize, each: usize| {
            let (key, value, header) = (vec![b'k'; key], vec![b'v'; value], vec![b'h'; each]);
            let position = Position { partition: 0, offset: 7 };
            let reject = Reject { kind: RejectKind::Json, detail: "why".to_owned() };
            let headers = vec![("h", Some(header.as_slice())); headers];
            DeadLetter::new(position, reject, Some(&key), Some(&value), headers)
        };
        let check = |key, value, headers, each, want: Option<&str>| {
            let (bytes, cut) = size(&letter(key, value, headers, each), COPIED[0]);
            assert!(bytes < 950_000, "{bytes}");
            assert_eq!(cut.as_deref(), want);
        };
        check(10, 10, 1, 10, None);
        check(100_000, 10, 0, 0, Some("key: 65536 of 100000 bytes"));
        check(10, 900_000, 1, 300_000, Some("value: 786432 of 900000 bytes, headers: 1 of 1 left out"));
        check(10, 10, 100_000, 1, Some("headers: 96360 of 100000 left out"));
        check(1_000_000, 1_000_000, 0, 0, Some("key: 65536 of 1000000 bytes, value: 786432 of 1000000 bytes"));
        let smallest = size(&letter(10, 10, 1, 10), COPIED[3]);
        assert_eq!(smallest.1.as_deref(), Some("key: 0 of 10 bytes, value: 0 of 10 bytes, headers: 1 of 1 left out"));
        assert!(smallest.0 < 500, "{smallest:?}");
    }
}
