//! New alerts and numbers, as server-sent events. Alerts and candidates have a number, `run.seq`, so that a browser
//! that was disconnected can resume (`Last-Event-ID`). The numbers of the run are sent every second, without an id.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Interval;

use super::{Body, Site, for_browsers, plain};
use crate::run_status::{EventKind, RecentEvent, Viewer};

/// How often the numbers are sent.
const NUMBERS_EVERY: Duration = Duration::from_secs(1);
/// How long a browser waits before it reconnects, in milliseconds.
const RETRY_MILLIS: u32 = 2_000;
/// The greatest number of streams.
const STREAMS_MAX: usize = 32;

struct Stream {
    site: Arc<Site>,
    newest: watch::Receiver<u64>,
    ticks: Interval,
    seen: u64,
    ready: VecDeque<String>,
    _viewer: Viewer,
}

impl Site {
    /// `/api/events`.
    pub(super) fn events(self: &Arc<Self>, headers: &HeaderMap, query: &BTreeMap<String, String>) -> Response<Body> {
        let newest = self.status.newest();
        if self.status.viewers() >= STREAMS_MAX {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n".to_owned());
        }
        let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let last = header.or(query.get("last").map(String::as_str)).unwrap_or_default();
        let known = last.split_once('.').filter(|(run, _)| *run == self.run).and_then(|(_, seq)| seq.parse().ok());
        let known = known.filter(|seq| self.status.has_all_since(*seq));
        let hello = json!({ "run": self.run, "resumed": known.is_some() });
        let mut ticks = tokio::time::interval(NUMBERS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stream = Stream {
            site: Arc::clone(self),
            newest,
            ticks,
            seen: known.unwrap_or(0),
            ready: VecDeque::from([format!("retry: {RETRY_MILLIS}\nevent: hello\ndata: {hello}\n\n")]),
            _viewer: self.status.viewer(),
        };
        let frames = futures_util::stream::unfold(stream, async |mut stream| {
            let text = stream.next().await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), stream))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Stream {
    async fn next(&mut self) -> String {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return text;
            }
            self.newest.mark_unchanged();
            for entry in self.site.status.since(self.seen) {
                self.seen = entry.seq;
                self.ready.push_back(told(&self.site.run, &entry));
            }
            if self.ready.is_empty() {
                tokio::select! {
                    changed = self.newest.changed() => if changed.is_err() { self.ticks.tick().await; },
                    _ = self.ticks.tick() => {
                        let numbers = for_browsers(self.site.numbers());
                        self.ready.push_back(format!("event: state\ndata: {numbers}\n\n"));
                    }
                }
            }
        }
    }
}

fn told(run: &str, entry: &RecentEvent) -> String {
    let seq = entry.seq;
    let (event, data) = match &entry.what {
        EventKind::Alert(alert) => ("alert", serde_json::from_str(&alert.body).unwrap_or_default()),
        EventKind::Candidate(heard) => ("candidate", serde_json::to_value(heard).unwrap_or_default()),
    };
    let data = for_browsers(data); // on one line
    format!("id: {run}.{seq}\nevent: {event}\ndata: {data}\n\n")
}
