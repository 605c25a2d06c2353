//! A cluster with TLS, logins and rights: what works, and what is said where something is wrong or missing.

mod broker;
mod formats;
mod revoked;
mod rights;

use broker::{Broker, Listener, PASSWORD, USER};

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::harness::http::serve;
use crate::harness::{Ended, Job, Record, Table, kafka};
use crate::truth::server::free_port;

const TOPIC: &str = "shop.streaming.transactions";
const EPISODES: &str = "tripline.episodes";

/// A cluster that has the changes of a table, with topics and rights for the user.
struct Secured {
    table: Table,
    broker: Broker,
    runs: u32,
    /// Of the next row.
    next_id: i64,
}

/// The rights of `tripline run` where topics have been made before.
const RIGHTS: [&[&str]; 7] = [
    &["--operation", "READ", "--operation", "DESCRIBE", "--topic", TOPIC],
    &["--operation", "WRITE", "--operation", "DESCRIBE", "--topic", "alerts"],
    &["--operation", "WRITE", "--operation", "DESCRIBE", "--topic", "letters"],
    &["--operation", "READ", "--topic", EPISODES],
    &["--operation", "WRITE", "--topic", EPISODES],
    &["--operation", "READ", "--group", "run", "--resource-pattern-type", "prefixed"],
    &["--operation", "WRITE", "--transactional-id", "tripline-run", "--resource-pattern-type", "prefixed"],
];

impl Secured {
    fn new(name: &str) -> Self {
        let cluster = Self::without_rights(name);
        for right in RIGHTS {
            cluster.broker.acl("--add", right);
        }
        cluster
    }

    fn without_rights(name: &str) -> Self {
        let table = Table::new(name);
        table.insert(&[(1, 101, "3500"), (2, 102, "100")]);
        table.wait_in_kafka(2);
        let broker = Broker::start();
        broker.create(&[TOPIC, "alerts", "letters", EPISODES]);
        broker.produce(TOPIC, &kafka::records(table.topic(), 0));
        Self { table, broker, runs: 0, next_id: 10 }
    }

    /// A run of a new group that goes in this way.
    fn job(&mut self, listener: Listener, properties: &[(&'static str, &str)]) -> Job {
        self.runs += 1;
        let mut job = Job::new(self.broker.folder(), &self.table.database.name, &format!("run-{}", self.runs), TOPIC);
        job.bootstrap = self.broker.address(listener);
        (job.alert_topic, job.dead_letter_topic) = ("alerts".to_owned(), "letters".to_owned());
        job.top = "startup_wait_ms = 15000\n".to_owned();
        job.environment.push(("TRIPLINE__CHECKPOINT__EPISODES_TOPIC", EPISODES.to_owned()));
        if let Ok(level) = std::env::var("SECURED_LOG") {
            job.environment.push(("RUST_LOG", level));
        }
        job.environment.extend(properties.iter().map(|(name, value)| (*name, (*value).to_owned())));
        job
    }
}

const PROTOCOL: &str = "TRIPLINE__KAFKA__PROPERTIES__SECURITY_PROTOCOL";
const MECHANISM: &str = "TRIPLINE__KAFKA__PROPERTIES__SASL_MECHANISMS";
const NAME: &str = "TRIPLINE__KAFKA__PROPERTIES__SASL_USERNAME";
const LOGIN: &str = "TRIPLINE__KAFKA__PROPERTIES__SASL_PASSWORD";
const CA: &str = "TRIPLINE__KAFKA__PROPERTIES__SSL_CA_LOCATION";

fn sasl<'a>(mechanism: &'a str, password: &'a str, ca: &'a str) -> [(&'static str, &'a str); 5] {
    [(PROTOCOL, "SASL_SSL"), (MECHANISM, mechanism), (NAME, USER), (LOGIN, password), (CA, ca)]
}

fn works(run: &Ended) {
    assert_eq!((run.code, run.count("fired")), (Some(0), 1), "{run}");
    assert!(!run.everything().contains(PASSWORD), "{run}");
}

/// Checks that the run ended with 4 at its start, and with one clear message that has these parts.
fn refused(run: &Ended, parts: &[&str]) {
    assert_eq!(run.code, Some(4), "{run}");
    let said = run.everything();
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {run}");
    }
    assert!(!said.contains(PASSWORD) && !said.contains("does not exist yet"), "{run}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn secured_ways_in() {
    let mut cluster = Secured::new("secured");
    let (ca, other_ca) = (cluster.broker.file("ca.pem"), cluster.broker.file("other-ca.pem"));
    let scram = sasl("SCRAM-SHA-512", PASSWORD, &ca);
    works(&cluster.job(Listener::Sasl, &scram).try_run());
    works(&cluster.job(Listener::Sasl, &sasl("PLAIN", PASSWORD, &ca)).try_run());
    let (certificate, key) = (cluster.broker.file("client.pem"), cluster.broker.file("client.key"));
    let tls = [
        (PROTOCOL, "SSL"),
        (CA, ca.as_str()),
        ("TRIPLINE__KAFKA__PROPERTIES__SSL_CERTIFICATE_LOCATION", certificate.as_str()),
        ("TRIPLINE__KAFKA__PROPERTIES__SSL_KEY_LOCATION", key.as_str()),
    ];
    works(&cluster.job(Listener::Tls, &tls).try_run());

    let issuer = Issuer::start();
    let bearer = |secret| issuer.login(secret, &ca);
    works(&cluster.job(Listener::Sasl, &bearer(PASSWORD)).try_run());
    refused(&cluster.job(Listener::Sasl, &bearer("hunter2")).try_run(), &["gives no token: HTTP status 401"]);

    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let wrong = cluster.job(Listener::Sasl, &sasl(mechanism, "hunter2", &ca)).try_run();
        refused(&wrong, &["kafka.bootstrap_servers", "uthentication failed"]);
    }
    refused(&cluster.job(Listener::Sasl, &sasl("SCRAM-SHA-512", PASSWORD, &other_ca)).try_run(), &["certificate"]);
    refused(&cluster.job(Listener::Expired, &scram).try_run(), &["expired"]);
    refused(&cluster.job(Listener::OtherHost, &scram).try_run(), &["certificate"]);
    refused(&cluster.job(Listener::Tls, &tls[..2]).try_run(), &["certificate"]);
}

/// An identity provider. Who has the secret `UNSIGNED` gets a token that the broker takes for a signed one, and refuses.
struct Issuer {
    endpoint: String,
}

const UNSIGNED: &str = "gets-another-token";

impl Issuer {
    fn start() -> Self {
        let port = free_port();
        let login = |secret: &str| format!("authorization: Basic {}", STANDARD.encode(format!("{USER}:{secret}")));
        let known = [(login(PASSWORD), "none"), (login(UNSIGNED), "HS256")];
        // The broker of these tests believes tokens without a signature.
        serve(port, move |head, body| {
            let asked = |(login, _): &&(String, &str)| head.lines().any(|line| line.eq_ignore_ascii_case(login));
            let Some((_, algorithm)) =
                known.iter().find(asked).filter(|_| body == "grant_type=client_credentials&scope=kafka")
            else {
                return ("401 Unauthorized", String::new());
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let claims = json!({"sub": USER, "iat": now, "exp": now + 600}).to_string();
            let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let token = format!("{}.{}.", encode(&json!({"alg": algorithm}).to_string()), encode(&claims));
            ("200 OK", json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}).to_string())
        });
        Self { endpoint: format!("http://127.0.0.1:{port}/token") }
    }

    fn login<'a>(&'a self, secret: &'a str, ca: &'a str) -> [(&'static str, &'a str); 8] {
        [
            (PROTOCOL, "SASL_SSL"),
            (CA, ca),
            (MECHANISM, "OAUTHBEARER"),
            ("TRIPLINE__KAFKA__PROPERTIES__SASL_OAUTHBEARER_METHOD", "oidc"),
            ("TRIPLINE__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_ID", USER),
            ("TRIPLINE__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET", secret),
            ("TRIPLINE__KAFKA__PROPERTIES__SASL_OAUTHBEARER_SCOPE", "kafka"),
            ("TRIPLINE__KAFKA__PROPERTIES__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", &self.endpoint),
        ]
    }
}

/// The problems that `doctor` finds (check, text and fix), and its exit code.
fn doctor(job: &Job) -> (Vec<(String, String)>, Option<i32>) {
    let out = job.command(&["doctor", "--output", "json"]).output().unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    let problems = report["findings"].as_array().unwrap().iter().filter(|finding| finding["grade"] == "problem");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found: Vec<_> = problems
        .map(|finding| (text(&finding["check"]), format!("{} | {}", text(&finding["text"]), text(&finding["fix"]))))
        .collect();
    assert!(!format!("{found:?}").contains(PASSWORD), "{found:?}");
    (found, out.status.code())
}

/// `doctor` finds one thing wrong, in this check, and names these.
fn one_problem(job: &Job, check: &str, parts: &[&str]) {
    let (found, code) = doctor(job);
    let [(name, text)] = found.as_slice() else { panic!("{check}: {found:?}") };
    assert_eq!((name.as_str(), code), (check, Some(4)), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in {text}");
}

/// `doctor` names the one setting or right that is wrong, and changes nothing.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_doctor_names_what_is_wrong() {
    let mut cluster = Secured::new("examined");
    let (ca, other_ca) = (cluster.broker.file("ca.pem"), cluster.broker.file("other-ca.pem"));
    let login = sasl("SCRAM-SHA-512", PASSWORD, &ca);
    let job = cluster.job(Listener::Sasl, &login);
    assert_eq!(doctor(&job), (Vec::new(), Some(0)));
    for (right, (check, parts)) in RIGHTS.iter().zip([
        ("topic", &[TOPIC, "--operation READ --topic"] as &[&str]),
        ("topic.alerts", &["--operation WRITE --topic alerts"]),
        ("topic.dead-letter", &["--operation WRITE --topic letters"]),
        ("topic.episodes", &["--operation READ --topic tripline.episodes"]),
        ("topic.episodes", &["--operation WRITE --topic tripline.episodes"]),
        ("group", &["--operation READ --group run-"]),
    ]) {
        cluster.broker.acl("--remove", right);
        one_problem(&job, check, parts);
        cluster.broker.acl("--add", right);
    }
    let wrong = [
        (Listener::Sasl, sasl("SCRAM-SHA-512", "hunter2", &ca), "SASL_PASSWORD"),
        (Listener::Sasl, sasl("SCRAM-SHA-512", PASSWORD, &other_ca), "ssl.ca.location"),
        (Listener::Expired, login, "has not expired"),
        (Listener::OtherHost, login, "of the host name"),
    ];
    for (listener, properties, fix) in wrong {
        one_problem(&cluster.job(listener, &properties), "broker", &[fix]);
    }
    let issuer = Issuer::start();
    for secret in ["hunter2", UNSIGNED] {
        let job = cluster.job(Listener::Sasl, &issuer.login(secret, &ca));
        one_problem(&job, "broker", &["sasl.oauthbearer.token.endpoint.url, .client.id, .client.secret"]);
    }
    assert_eq!(doctor(&job), (Vec::new(), Some(0)));
    assert!(cluster.broker.records("alerts").is_empty() && cluster.broker.records(EPISODES).is_empty());
    works(&job.try_run());
}

/// A process that ends while its clients are in the middle of handshakes ends with its own exit code.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_ends_in_the_middle_of_handshakes() {
    let mut cluster = Secured::new("handshakes");
    let other_ca = cluster.broker.file("other-ca.pem");
    for _ in 0..100 {
        let run = cluster.job(Listener::Sasl, &sasl("SCRAM-SHA-512", PASSWORD, &other_ca)).try_run();
        refused(&run, &["certificate"]);
    }
}

/// Each right that is missing is named.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_that_are_missing() {
    let mut cluster = Secured::new("rights");
    let ca = cluster.broker.file("ca.pem");
    let login = sasl("SCRAM-SHA-512", PASSWORD, &ca);
    // The dead-letter topic is needed with the first invalid record.
    cluster.broker.produce(TOPIC, &[Record { value: Some(b"{}".to_vec()), ..Record::default() }]);
    for (right, named) in RIGHTS.iter().zip([TOPIC, "alerts", "letters", EPISODES, EPISODES, "run-", "tripline-run-"]) {
        cluster.broker.acl("--remove", right);
        let run = cluster.job(Listener::Sasl, &login).try_run();
        refused(&run, &[named]);
        cluster.broker.acl("--add", right);
    }
    works(&cluster.job(Listener::Sasl, &login).try_run());
}
