//! Every format of records by every way in: docs/formats.md has the table.

use super::broker::{Broker, Listener, PASSWORD};
use super::{CA, PROTOCOL, Secured, sasl, works};
use crate::formats::apicurio::{Apicurio, Ids};
use crate::formats::{ADDED, MODE, unwrapped};
use crate::harness::orders::Archive;
use crate::harness::{Connector, Job, kafka};

/// Properties as the environment has them.
type Properties = Vec<(&'static str, String)>;

/// The kinds of connections: the listener, `None` for the one without TLS and login, and the properties for it.
fn ways(broker: &Broker) -> [(Option<Listener>, Properties); 4] {
    let file = |name: &str| broker.file(name);
    let ca = file("ca.pem");
    let login = |mechanism| sasl(mechanism, PASSWORD, &ca).map(|(name, value)| (name, value.to_owned())).to_vec();
    let certificate = vec![
        (PROTOCOL, "SSL".to_owned()),
        (CA, ca.clone()),
        ("TRIPLINE__KAFKA__PROPERTIES__SSL_CERTIFICATE_LOCATION", file("client.pem")),
        ("TRIPLINE__KAFKA__PROPERTIES__SSL_KEY_LOCATION", file("client.key")),
    ];
    [
        (None, Vec::new()),
        (Some(Listener::Sasl), login("SCRAM-SHA-512")),
        (Some(Listener::Sasl), login("PLAIN")),
        (Some(Listener::Tls), certificate),
    ]
}

/// Alerts and archive are the same, whatever the records are written in and however the broker is reached.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_by_every_way_in() {
    let registry = Apicurio::start();
    registry.part_ids();
    let mut cluster = Secured::new("formats");
    let all = cluster.table.database.name.clone();
    cluster.broker.acl("--add", &["--operation", "READ", "--topic", &all, "--resource-pattern-type", "prefixed"]);
    let owned = |settings: &[(&str, &str)]| -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let wrapped = owned(&[
        ("value.converter.schemas.enable", "true"),
        ("key.converter.schemas.enable", "true"),
        ("decimal.handling.mode", "precise"),
    ]);
    let avro = |ids: Ids| [registry.converter(ids), owned(&[("decimal.handling.mode", "precise")])].concat();
    let row = owned(&unwrapped(&[(MODE, "rewrite"), ADDED]));
    // Name, settings, `[source]`, records of the changes below.
    let formats = [
        ("json", Vec::new(), String::new(), 5),
        ("json_schemas", wrapped, String::new(), 5),
        ("json_row", row.clone(), String::new(), 4),
        ("avro", avro(Ids::EightBytes), registry.section(Ids::EightBytes), 5),
        ("avro_confluent", avro(Ids::Confluent), registry.section(Ids::Confluent), 5),
        ("avro_row", [avro(Ids::EightBytes), row.clone()].concat(), registry.section(Ids::EightBytes), 4),
        ("avro_row_confluent", [avro(Ids::Confluent), row].concat(), registry.section(Ids::Confluent), 4),
    ];
    let formats = formats.map(|(name, settings, source, records)| {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        (name, Connector::start(&cluster.table.database, &format!("_{name}"), &settings), source, records)
    });
    // Of the two rows there, which each connector has taken a snapshot of, one goes and the other one is raised.
    cluster.table.sql("UPDATE streaming.transactions SET amount = 3600 WHERE id = 2");
    cluster.table.sql("DELETE FROM streaming.transactions WHERE id = 1");
    let ways = ways(&cluster.broker);
    for (name, connector, source, records) in formats {
        kafka::wait_for_end(&connector.topic, records);
        let topic = connector.topic.clone();
        cluster.broker.create(&[&topic]);
        cluster.broker.produce(&topic, &kafka::records(&topic, 0));
        for (listener, properties) in &ways {
            let borrowed: Vec<_> = properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let job = cluster.job(listener.unwrap_or(Listener::Sasl), &borrowed);
            let bootstrap = if listener.is_some() { job.bootstrap.clone() } else { cluster.broker.bootstrap() };
            let job = Job { topic: topic.clone(), bootstrap, source: source.clone(), ..job };
            let run = job.try_run();
            works(&run);
            let read = u64::try_from(records).unwrap();
            assert_eq!((run.count("read"), run.count("rejected")), (read, 0), "{name} {listener:?}: {run}");
            assert_eq!(run.out, ["User 102 ($3,600.00)"], "{name} {listener:?}: {run}");

            let Job { group, topic, bootstrap, source, environment, .. } = job;
            let folder = cluster.broker.folder().join(&group);
            let archive = Archive::new(&folder, &cluster.table.database.name, &format!("{group}-archive"), &topic);
            let dead_letter_topic = "letters".to_owned();
            let archive = Archive { bootstrap, dead_letter_topic, source, environment, partition_by: None, ..archive };
            let done = archive.try_run().well();
            assert_eq!((done.count("written"), done.count("rejected")), (4, 0), "{name} {listener:?}: {done}");
            eprintln!("{name} {listener:?} {:?}: right", properties.get(1).map(|(_, mechanism)| mechanism));
        }
    }
    assert!(cluster.broker.records("letters").is_empty());
}
