//! The Kafka cluster: everything that is asked of it besides the streams of changes and alerts.
//!
//! - this file: clients that look something up, and how a call is made
//! - [`topic`]: topics, their partitions and their settings
//! - [`group`]: consumer groups from outside: offsets and members
//! - [`records`]: single records, read without joining a group
//! - [`registry`]: schemas by id
//! - `rights`: what the user may do with a topic
//! - `token`: tokens for SASL/OAUTHBEARER
//! - [`error`]: what an error of the client library means

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
/// How long a call may take in all: some requests have no limit of their own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a client is served while a call waits for its answer, and how many of its events are served then.
const SERVED_EVERY: Duration = Duration::from_millis(200);
const EVENTS_SERVED: usize = 50;

/// What OpenSSL found wrong with a certificate, the client library does not pass on.
const NOT_VERIFIED: &str = "; the broker's certificate is of an authority that is not trusted (ssl.ca.location), of another host name, or has expired: `openssl s_client -connect HOST:PORT -CAfile FILE` says which";

/// Initializes what clients share. To be called before the first client is made.
///
/// OpenSSL cleans up when the process exits, while threads of librdkafka may still be in a handshake: the process would
/// crash rather than end with its exit code. Initialized this way (`OPENSSL_INIT_NO_ATEXIT`), it does not clean up.
pub fn init() {
    #[cfg(feature = "kafka-tls")]
    openssl_sys::init();
}

/// Settings of a client that looks something up, and never joins its group.
const LOOKUP_SETTINGS: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct Cluster {
    base: ClientConfig,
    servers: String,
    /// Lookups name this group, since the broker looks at their rights to it even where they do not join it.
    group: String,
}

impl Cluster {
    /// Nothing is asked yet. `properties` are librdkafka's own settings, `group` the consumer group that has rights.
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

    /// Its bootstrap servers, as the configuration has them.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The settings that every client of the cluster shares.
    pub fn settings(&self) -> ClientConfig {
        self.base.clone()
    }

    /// A client that looks something up for this group, and does not join it.
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

/// Which records and offsets a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// What is committed. Offsets that an open transaction is to move are waited for.
    Committed,
    /// Everything, at once.
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

/// How an error begins: which cluster was asked, where that is configured, and what for.
fn call_at(servers: &str, what: &str) -> String {
    format!("Kafka at {servers} (kafka.bootstrap_servers): {what}")
}

type Lookup = BaseConsumer<Watch>;

/// A client that looks things up for a group without joining it.
pub struct Client {
    settings: ClientConfig,
    servers: String,
    group: String,
    consumer: Mutex<Arc<Closing<Lookup>>>,
    /// Whether it was made to connect once.
    is_connected: AtomicBool,
}

fn make(settings: &ClientConfig) -> Result<Arc<Closing<Lookup>>, CallError> {
    let made: Result<Lookup, KafkaError> = settings.create_with_context(Watch::of(settings));
    made.map(|client| Arc::new(Closing::new(client))).map_err(|error| error::bad_property(&error, settings))
}

/// A client of librdkafka, which is closed on a thread of its own: that can take a while.
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
    /// Calls librdkafka on a thread for blocking calls. `what` says what for, in errors.
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
        // A client that has heard of a cluster without brokers can ask nobody for minutes: the next call has a new one.
        let new = make(&self.settings)?;
        *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = new;
        self.is_connected.store(false, Ordering::Relaxed);
        Err(error)
    }
}

/// Serves what a client has to say and to ask: a refused login is reported so, and a token is asked for so.
pub(crate) fn serve(consumer: &Lookup) {
    // Each poll without a wait serves one event, which may be a line of the client's log.
    for _ in 0..EVENTS_SERVED {
        if let Some(Err(error)) = consumer.poll(Duration::ZERO)
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
        {
            // What asks for the group's offsets would only time out.
            let watch = consumer.context();
            watch.refuse(Refused { reason: format!("group {}: {error}", watch.group), login: None });
        }
    }
}

/// Until a client's login is refused, and why. A request of such a client would only time out.
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

/// Keeps what the client library reports of a login, since requests themselves only time out.
#[derive(Debug)]
pub struct Watch {
    group: String,
    /// Whether the login is a token.
    has_token: bool,
    refused: Mutex<Option<Refused>>,
}

/// A login that was refused, or the use of the group.
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

/// Takes a line of librdkafka's own log. What it says of connections is said once by the caller, and what it says of
/// properties that another kind of client takes is of no use.
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

/// The context of clients that write or administer: each of their calls returns its own error.
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
