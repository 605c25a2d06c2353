//! The page and the interfaces for machines, on a live run.
//!
//! - `machines`: alerts, keys and events as JSON, and which requests are answered
//! - `metrics`: every metric and its value
//! - `ready`: the reasons for a run not to be ready
//! - `still`: connections that are held
//! - `page`: the page in a browser
//! - `prometheus`: Prometheus itself on the metrics and the alert rules

mod machines;
mod metrics;
mod page;
mod prometheus;
mod ready;
mod still;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value as Json;

use crate::harness::Job;

/// An address that nobody listens at.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A run's configuration with the page at a free port.
fn with_page(mut job: Job) -> (Job, String) {
    let listen = free_address();
    job.environment.push(("TRIPLINE__WEB__LISTEN", listen.clone()));
    (job, format!("http://{listen}"))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .proxy(None)
        .build()
        .into()
}

/// Status and body. 0 if there is no answer.
fn get(url: &str) -> (u16, String) {
    match agent().get(url).call() {
        Ok(mut answer) => (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap()),
        Err(_) => (0, String::new()),
    }
}

fn get_json(url: &str) -> Json {
    let (status, body) = get(url);
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// An answer of `/metrics`.
struct Scrape {
    text: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { text: text.to_owned(), samples: lines.map(Sample::of).collect() }
    }

    /// The one sample of this name, without `tripline_`, that has exactly these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let is = |sample: &&Sample| sample.name == format!("tripline_{name}") && sample.labels == labels;
        let found: Vec<&Sample> = self.samples.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?} in\n{}", self.text);
        found[0].value
    }
}

impl Sample {
    /// Parses a line. The values of these labels contain neither commas nor quotes.
    fn of(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line:?}"));
        let label = |text: &str| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
        };
        let labels = labels.split(',').filter(|text| !text.is_empty());
        let labels = labels.map(|text| label(text).unwrap_or_else(|| panic!("{text:?} in {line:?}"))).collect();
        Self { name: name.to_owned(), labels, value: value.parse().unwrap() }
    }
}
