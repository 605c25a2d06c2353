//! The Kafka cluster: all requests except the streams of changes and alerts.
//!
//! - this file: clients for lookups, and how a call is made
//! - [`topic`]: topics, their partitions and their settings
//! - [`group`]: reads and moves consumer groups without joining them
//! - [`records`]: single records, read without joining a group
//! - [`registry`]: schemas by id
//! - `rights`: the user's rights on topics and groups
//! - `token`: tokens for SASL/OAUTHBEARER
//! - [`error`]: the meaning of the client library's errors

pub mod error;
pub mod group;
pub mod records;
pub mod registry;
mod rights;
pub(crate) mod token;
pub mod topic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::failure::{CallError, Kind, RefusedLogin, Server};

/// How long one request may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take in total: some requests have no limit of their own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a client's events are served while a call waits for its answer, and how many are served each time.
const SERVED_EVERY: Duration = Duration::from_millis(200);
const EVENTS_SERVED: usize = 50;

/// A hint about OpenSSL's reason, because the client library does not pass it on.
const NOT_VERIFIED: &str = "; the broker's certificate is of an authority that is not trusted (ssl.ca.location), of another host name, or has expired: `openssl s_client -connect HOST:PORT -CAfile FILE` says which";

/// Initializes the libraries that all clients share. It must be called before the first client is created.
///
/// By default OpenSSL cleans up when the process exits, while threads of librdkafka may still be in a handshake. The
/// process would then crash instead of ending with its exit code. Initialized this way (`OPENSSL_INIT_NO_ATEXIT`),
/// OpenSSL does not clean up.
pub fn init() {
    #[cfg(feature = "kafka-tls")]
    openssl_sys::init();
}

/// Settings of a client for lookups, which never joins its group.
const LOOKUP_SETTINGS: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

/// The address and settings of a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    base: ClientConfig,
    servers: String,
    /// The group that lookups name. The broker checks their rights on it even if they do not join it.
    group: String,
}

impl Cluster {
    /// Creates a cluster without connecting. `properties` are librdkafka's own settings. `group` is the consumer group
    /// on which the user has rights.
    pub fn new(servers: &str, properties: &BTreeMap<String, String>, group: &str) -> Self {
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", servers).set("client.id", "tripline");
        for (name, value) in token::prepared(properties, servers) {
            base.set(name, value);
        }
        Self { base, servers: servers.to_owned(), group: group.to_owned() }
    }

    /// The consumer group that lookups name.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The bootstrap servers, as configured.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The settings that every client of the cluster shares.
    pub fn settings(&self) -> ClientConfig {
        self.base.clone()
    }

    /// Creates a client for lookups, which names this group and does not join it.
    ///
    /// # Errors
    /// A property that librdkafka does not accept.
    pub fn client(&self, group: &str, isolation: Isolation) -> Result<Client, CallError> {
        let settings = self.lookup_settings(group, isolation);
        let consumer = Mutex::new(make(&settings)?);
        let is_connected = AtomicBool::new(false);
        Ok(Client { settings, servers: self.servers.clone(), group: group.to_owned(), consumer, is_connected })
    }

    fn lookup_settings(&self, group: &str, isolation: Isolation) -> ClientConfig {
        let mut settings = self.base.clone();
        for (name, value) in LOOKUP_SETTINGS {
            settings.set(name, value);
        }
        settings.set("group.id", group).set("isolation.level", isolation.as_str()).remove("group.instance.id");
        settings
    }

    fn failed(&self, what: &str, error: KafkaError) -> CallError {
        let is_of_group = error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
        let what = if is_of_group { format!("{what}, as group {}", self.group) } else { what.to_owned() };
        error::failed(&call_at(&self.servers, &what), error)
    }
}

/// The records and offsets that a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Committed ones only. Requests wait for offsets that an open transaction is about to move.
    Committed,
    /// All of them, without waiting.
    Uncommitted,
}

impl Isolation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// The beginning of an error: the cluster, if it is configured, and the purpose of the call.
fn call_at(servers: &str, what: &str) -> String {
    format!("Kafka at {servers} (kafka.bootstrap_servers): {what}")
}

type Lookup = BaseConsumer<Watch>;

/// A client for lookups in the name of a group, which it does not join.
pub struct Client {
    settings: ClientConfig,
    servers: String,
    group: String,
    consumer: Mutex<Arc<Closing<Lookup>>>,
    /// Whether the client has been made to connect once.
    is_connected: AtomicBool,
}

fn make(settings: &ClientConfig) -> Result<Arc<Closing<Lookup>>, CallError> {
    let made: Result<Lookup, KafkaError> = settings.create_with_context(Watch::of(settings));
    made.map(|client| Arc::new(Closing::new(client))).map_err(|error| error::bad_property(&error, settings))
}

/// A client of librdkafka. It is closed on a thread of its own, because that can take a while.
pub(crate) struct Closing<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Closing<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> std::ops::Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap_or_else(|| unreachable!("it is taken when this is dropped"))
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
            Err(_) => drop(client),
        }
    }
}

impl Client {
    /// Calls librdkafka on a thread for blocking calls. `what` is the purpose, for errors.
    async fn call<T: Send + 'static>(
        &self,
        what: &str,
        ask: impl FnOnce(&Lookup) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, CallError> {
        let consumer = Arc::clone(&*self.consumer.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = Arc::clone(&consumer);
        let called = tokio::task::spawn_blocking(move || {
            serve(&asked);
            ask(&asked)
        });
        let call = call_at(&self.servers, what);
        let answered = tokio::select! {
            answered = tokio::time::timeout(ANSWER_TIMEOUT, called) => answered,
            Refused { reason, login } = refused(&consumer) => {
                return Err(CallError::new(call, reason, Kind::Refused).of_login(login));
            }
        };
        let error = match answered {
            Ok(Ok(Ok(done))) => return Ok(done),
            Ok(Ok(Err(error))) => error::failed(&call, error),
            Ok(Err(panicked)) => return Err(CallError::from_source(call, panicked, Kind::Internal)),
            Err(_) => CallError::new(&call, format!("no answer within {ANSWER_TIMEOUT:?}"), Kind::Unreachable)
                .at(Server::Kafka),
        };
        if error.kind != Kind::Unreachable {
            return Err(error);
        }
        // A client that was informed of a cluster without brokers cannot send requests for minutes. The next call uses
        // a new one.
        let new = make(&self.settings)?;
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = new;
        self.is_connected.store(false, Ordering::Relaxed);
        Err(error)
    }
}

/// Serves a client's events. This is how it reports a refused login and requests a token.
pub(crate) fn serve(consumer: &Lookup) {
    // Each poll without a wait serves one event, which may be a line of the client's log.
    for _ in 0..EVENTS_SERVED {
        if let Some(Err(error)) = consumer.poll(Duration::ZERO)
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
        {
            // Requests for the group's offsets would only time out.
            let watch = consumer.context();
            watch.refuse(Refused { reason: format!("group {}: {error}", watch.group), login: None });
        }
    }
}

/// Waits until a client's login is refused, and returns the reason. A request of such a client would only time out.
async fn refused(consumer: &Arc<Closing<Lookup>>) -> Refused {
    loop {
        tokio::time::sleep(SERVED_EVERY).await;
        let served = Arc::clone(consumer);
        let _ = tokio::task::spawn_blocking(move || serve(&served)).await;
        if let Some(refused) = consumer.context().take_refused() {
            return refused;
        }
    }
}

/// Stores the client library's reports about a login, because requests themselves only time out.
#[derive(Debug)]
pub struct Watch {
    group: String,
    /// Whether the login is a token.
    has_token: bool,
    refused: Mutex<Option<Refused>>,
}

/// The refusal of a login, or of the group.
#[derive(Debug)]
struct Refused {
    reason: String,
    login: Option<RefusedLogin>,
}

impl Watch {
    fn of(settings: &ClientConfig) -> Self {
        let mechanism = settings.get("sasl.mechanisms").or_else(|| settings.get("sasl.mechanism"));
        let group = settings.get("group.id").unwrap_or_default().to_owned();
        Self { group, has_token: mechanism == Some("OAUTHBEARER"), refused: Mutex::default() }
    }

    fn refuse(&self, refused: Refused) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    fn take_refused(&self) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Receives a line of librdkafka's own log. Lines about connections are logged at DEBUG only, because the caller reports
/// the outage. So are lines about properties for other kinds of clients.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    const SAID_ELSEWHERE: [&str; 6] = ["FAIL", "ERROR", "CONFWARN", "REQTMOUT", "GETPID", "CONNECT"];
    let is_warning = matches!(
        level,
        RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
    );
    if is_warning && !SAID_ELSEWHERE.contains(&facility) {
        tracing::warn!(target: "librdkafka", "{facility}: {message}");
    } else {
        tracing::debug!(target: "librdkafka", "{facility}: {message}");
    }
}

/// The context of clients that write or administer. Each of their calls returns its own error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::fetch(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::fetch(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return; // the end of a partition is no error
        }
        tracing::debug!(%error, reason, "Kafka client");
        if let Some(login) = error::refused_login(&error, reason, self.has_token) {
            let advice = if error::is_unverified(reason) { NOT_VERIFIED } else { "" };
            self.refuse(Refused { reason: format!("{reason}{advice}"), login: Some(login) });
        }
    }
}

impl ConsumerContext for Watch {}
