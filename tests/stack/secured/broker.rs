//! A Kafka broker of the test's own that asks who one is: TLS with authorities of the test's own, SCRAM, PLAIN, client
//! certificates, and rights by ACLs.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::Record;
use crate::harness::certificates::{authority, certificate};
use crate::recovery::broker::Broker as Kafka;
use crate::truth::server::free_port;

const ACL: &str = "org.apache.kafka.tools.AclCommand";

/// The user that the tests log in as.
pub(super) const USER: &str = "tripline";
pub(super) const PASSWORD: &str = "a-secret-of-the-test";

/// Ways in, and what is wrong with some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// TLS, and a name and a password.
    Sasl,
    /// TLS, and a certificate of the client's.
    Tls,
    /// As `Sasl`, with a certificate of the day before yesterday.
    Expired,
    /// As `Sasl`, with a certificate of another host.
    OtherHost,
}

const LISTENERS: [(Listener, &str); 4] =
    [(Listener::Sasl, "SASL"), (Listener::Tls, "TLS"), (Listener::Expired, "EXPIRED"), (Listener::OtherHost, "OTHER")];

pub(super) struct Broker {
    kafka: Kafka,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
}

impl Broker {
    pub(super) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tripline-secured.").tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        let (ca, issuer) = authority("the test's own");
        std::fs::write(at("ca.pem"), &ca).unwrap();
        std::fs::write(at("other-ca.pem"), authority("another one").0).unwrap();
        for (name, host, expired) in
            [("good", "127.0.0.1", false), ("expired", "127.0.0.1", true), ("other", "elsewhere.example", false)]
        {
            let (pem, key) = certificate("broker", Some(host), expired, &issuer);
            std::fs::write(at(&format!("{name}.pem")), format!("{key}{pem}")).unwrap();
        }
        let (pem, key) = certificate(USER, None, false, &issuer);
        std::fs::write(at("client.pem"), pem).unwrap();
        std::fs::write(at("client.key"), key).unwrap();
        let ports: Vec<u16> = LISTENERS.iter().map(|_| free_port()).collect();
        let broker = Self { kafka: Kafka::new(&properties(folder.path(), &ports)), folder, ports };
        broker.set_password(PASSWORD);
        broker
    }

    pub(super) fn set_password(&self, password: &str) {
        let scram = format!("SCRAM-SHA-512=[password={password}]");
        let user = ["--alter", "--add-config", &scram, "--entity-type", "users", "--entity-name", USER];
        self.tool("kafka.admin.ConfigCommand", &user);
    }

    /// Cuts all connections, and reads the certificates again.
    pub(super) fn restart(&self) {
        self.kafka.stop();
        self.kafka.start();
    }

    /// The committed records of a topic.
    pub(super) fn records(&self, topic: &str) -> Vec<Record> {
        let mut settings = self.admin_settings();
        settings.set("group.id", "tests").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let (mut records, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => return records,
                Some(Ok(message)) => records.push(Record {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: Vec::new(),
                }),
                Some(Err(_)) | None => {}
            }
        }
        panic!("{topic} cannot be read");
    }

    /// Where one gets in without a login, and may do everything.
    pub(super) fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// The next offset that a group has committed in a topic's first partition.
    pub(super) fn committed(&self, group: &str, topic: &str) -> Option<i64> {
        let mut settings = self.admin_settings();
        let consumer: BaseConsumer = settings.set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let list = consumer.committed_offsets(list, Duration::from_secs(10)).ok()?;
        match list.find_partition(topic, 0)?.offset() {
            Offset::Offset(next) => Some(next),
            _ => None,
        }
    }

    /// A tool of Kafka's, with all rights.
    fn tool(&self, class: &str, arguments: &[&str]) {
        let server = self.kafka.bootstrap();
        let done =
            self.kafka.stack(&[&["tool", class, "--bootstrap-server", &server], arguments].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{arguments:?}: {said} {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(super) fn address(&self, listener: Listener) -> String {
        let at = LISTENERS.iter().position(|(known, _)| *known == listener).unwrap();
        format!("127.0.0.1:{}", self.ports[at])
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn admin_settings(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.kafka.bootstrap());
        settings
    }

    pub(super) fn create(&self, topics: &[&str]) {
        let admin: AdminClient<DefaultClientContext> = self.admin_settings().create().unwrap();
        let new: Vec<_> = topics
            .iter()
            .map(|topic| {
                let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
                if topic.ends_with("episodes") { new.set("cleanup.policy", "compact") } else { new }
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for made in runtime.block_on(admin.create_topics(&new, &AdminOptions::new())).unwrap() {
            made.unwrap();
        }
    }

    pub(super) fn produce(&self, topic: &str, records: &[Record]) {
        let producer: BaseProducer = self.admin_settings().create().unwrap();
        for record in records {
            let mut out: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).partition(0).headers(record.owned_headers());
            if let Some(key) = &record.key {
                out = out.key(key);
            }
            if let Some(value) = &record.value {
                out = out.payload(value);
            }
            producer.send(out).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// Adds or removes (`--add`, `--remove`) rights of the user: `--operation READ --topic t`.
    pub(super) fn acl(&self, verb: &str, right: &[&str]) {
        let principal = format!("User:{USER}");
        let force: &[&str] = if verb == "--remove" { &["--force"] } else { &[] };
        self.tool(ACL, &[&[verb, "--allow-principal", &principal], right, force].concat());
    }
}

fn properties(folder: &Path, ports: &[u16]) -> String {
    let each = |text: &dyn Fn(&str, u16) -> String| {
        LISTENERS.iter().zip(ports).map(|((_, name), port)| text(name, *port)).collect::<Vec<_>>().join(",")
    };
    let addresses = each(&|name, port| format!("{name}://127.0.0.1:{port}"));
    let map = each(&|name, _| format!("{name}:{}", if name == "TLS" { "SSL" } else { "SASL_SSL" }));
    let plain = "PLAINTEXT://{HOST}:{KAFKA_PORT}";
    let mut text = format!(
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{map}\n\
         listeners={plain},CONTROLLER://{{HOST}}:{{KAFKA_CONTROLLER_PORT}},{addresses}\nadvertised.listeners={plain},{addresses}\n\
         auto.create.topics.enable=false\nsasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN,OAUTHBEARER\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n"
    );
    let folder = folder.display();
    for (name, store) in [("sasl", "good"), ("tls", "good"), ("expired", "expired"), ("other", "other")] {
        let own = format!("listener.name.{name}");
        text += &format!("{own}.ssl.keystore.type=PEM\n{own}.ssl.keystore.location={folder}/{store}.pem\n");
        text += &format!("{own}.ssl.truststore.type=PEM\n{own}.ssl.truststore.location={folder}/ca.pem\n");
        if name == "tls" {
            text += &format!("{own}.ssl.client.auth=required\n{own}.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/\n");
            continue;
        }
        let module = "org.apache.kafka.common.security";
        text += &format!(
            "{own}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             {own}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             {own}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";\n"
        );
    }
    text
}
