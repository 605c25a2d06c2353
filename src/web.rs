//! The page, and the endpoints for programs: `/livez`, `/readyz`, `/metrics`. The server is read-only, off unless
//! configured, and on the loopback unless others are allowed. All served files are built into the program.
//!
//! - this file: the paths
//! - [`connections`]: accepting and closing connections
//! - [`guard`]: which requests are allowed, and what a browser may do with the answer
//! - [`api`]: the page's data, as JSON
//! - [`events`]: new alerts and numbers, as server-sent events
//! - [`health`]: whether the run is healthy
//! - [`metrics`]: Prometheus's text format
//! - [`open`]: the open alerts
//! - [`history`]: the last minutes, for a page that was just opened

mod api;
mod connections;
mod events;
mod guard;
mod health;
mod history;
mod metrics;
mod open;
mod params;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value as Json;
use tokio::task::JoinHandle;

use crate::config::{self, Config};
use crate::confirm::postgres::trace::Tracer;
use crate::kafka::Cluster;
use crate::rule::Rule;
use crate::run_status::RunStatus;
use guard::Guard;
pub use health::READINESS_HEADER;
use history::History;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

/// The state from which every request is answered.
#[derive(Debug)]
struct Site {
    status: Arc<RunStatus>,
    tracer: Tracer,
    history: History,
    health: health::Health,
    guard: Guard,
    messages: open::Messages,
    /// The id of this process. The numbers of events have no meaning in another process.
    run: String,
}

impl Web {
    /// Starts to serve. `config` and `cluster` are those of the run.
    ///
    /// # Errors
    /// A text for the user: the address cannot be used, or the database's URL is invalid.
    pub async fn start(
        settings: &config::Web,
        status: Arc<RunStatus>,
        rules: &[Rule],
        config: &Config,
        cluster: &Cluster,
    ) -> Result<Self, String> {
        let database = &config.postgres;
        let listen = settings.listen;
        let failed =
            |error: std::io::Error| format!("web.listen: {listen} cannot be had: {error}; choose another port");
        let listener = connections::listen(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        status.list_open();
        let site = Arc::new(Site {
            history: History::default(),
            tracer: Tracer::new(&database.url, database.statement_timeout, rules)?,
            health: health::Health::default(),
            guard: Guard::new(&settings.hosts),
            messages: open::Messages::of(config, cluster),
            run: uuid::Uuid::now_v7().simple().to_string(),
            status,
        });
        let sampled = Arc::clone(&site);
        let sampling = tokio::spawn(async move { sampled.history.keep(&sampled.status).await });
        let serving = tokio::spawn(connections::serve(listener, move |request| {
            let site = Arc::clone(&site);
            async move { guard::sealed(site.answer(request).await) }
        }));
        tracing::info!("the page is at http://{address}/");
        Ok(Self { address, tasks: [serving, sampling] })
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Site {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if let Err(problem) = self.guard.admits(request.headers()) {
            return plain(StatusCode::MISDIRECTED_REQUEST, problem);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "this page is read-only\n".to_owned());
        }
        let query = params::parse(request.uri().query().unwrap_or_default());
        match request.uri().path() {
            "/" => file("text/html; charset=utf-8", include_str!("web/assets/index.html")),
            "/app.css" => file("text/css; charset=utf-8", include_str!("web/assets/app.css")),
            "/app.js" => file("text/javascript; charset=utf-8", include_str!("web/assets/app.js")),
            "/dom.js" => file("text/javascript; charset=utf-8", include_str!("web/assets/dom.js")),
            "/key.js" => file("text/javascript; charset=utf-8", include_str!("web/assets/key.js")),
            "/chart.js" => file("text/javascript; charset=utf-8", include_str!("web/assets/chart.js")),
            "/icon.svg" => file("image/svg+xml", include_str!("web/assets/icon.svg")),
            "/api/state" => json(StatusCode::OK, self.state()),
            "/api/alerts" => self.alerts(&query),
            "/api/open" => json(StatusCode::OK, self.open().await),
            "/api/key" => self.key(&query).await,
            "/api/events" => self.events(request.headers(), &query),
            "/livez" => plain(StatusCode::OK, "alive\n".to_owned()),
            "/readyz" => self.ready().await,
            "/metrics" => {
                let text = metrics::text(&self.status.snapshot(), self.health.postgres(&self.tracer).await.is_ok());
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            _ => plain(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
        }
    }
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn file(kind: &'static str, text: &'static str) -> Response<Body> {
    typed(StatusCode::OK, kind, Bytes::from_static(text.as_bytes()))
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn json(status: StatusCode, value: Json) -> Response<Body> {
    typed(status, "application/json", for_browsers(value).to_string())
}

/// Converts integers that a browser would round to text.
fn for_browsers(value: Json) -> Json {
    /// The greatest integer up to which each integer has its own float: 2^53 - 1.
    const SAFE: i64 = (1 << 53) - 1;
    match value {
        Json::Number(number) if number.is_u64() || number.is_i64() => {
            let safe = number.as_i64().is_some_and(|number| (-SAFE..=SAFE).contains(&number));
            if safe { Json::Number(number) } else { Json::String(number.to_string()) }
        }
        Json::Array(items) => Json::Array(items.into_iter().map(for_browsers).collect()),
        Json::Object(pairs) => pairs.into_iter().map(|(name, value)| (name, for_browsers(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_round_is_text() {
        let max = 9_007_199_254_740_991_i64;
        let given = serde_json::json!({ "a": [max, max + 1, -max, -max - 1, u64::MAX, 0.5], "b": { "c": i64::MIN } });
        let told = serde_json::json!({
            "a": [max, "9007199254740992", -max, "-9007199254740992", "18446744073709551615", 0.5],
            "b": { "c": "-9223372036854775808" },
        });
        assert_eq!(for_browsers(given), told);
    }
}
