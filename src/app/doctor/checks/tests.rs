//! The checks as a table of facts. They need no server.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::facts::*;
use super::super::finding::Grade;
use super::*;
use crate::failure::{CallError, Kind};
use crate::model::{Column, ColumnType, NextOffset, Table};
use crate::progress::group::{GroupMember, GroupState};
use crate::progress::start::{Decision, Policy, Reason, Start, Stop};
use crate::progress::{Offsets, PartitionState, StartAt, TopicState};
use crate::rule::compile::compile;
use crate::rule::parse::parse;

fn config(more: &str) -> Config {
    let text = format!(
        "[kafka]\ngroup_id = \"g\"\n[source]\ntopic = \"p.s.t\"\n{more}\n[postgres]\nurl = \"postgres://localhost/db\"\n\
         [[rules]]\nname = \"r\"\nsql = \"SELECT 1\"\n"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    crate::config::load(file.path(), Vec::new()).unwrap()
}

fn table() -> Table {
    let column = |name: &str, ty: ColumnType| Column {
        name: name.to_owned(),
        ty,
        type_name: "x".to_owned(),
        nullable: false,
        has_default: false,
    };
    let columns = vec![
        column("id", ColumnType::Int8),
        column("User \"x\"", ColumnType::Int8),
        column("amount", ColumnType::Numeric { scale: Some(2) }),
        column("at", ColumnType::TimestampTz),
    ];
    Table { schema: "s".to_owned(), name: "t".to_owned(), columns, primary_key: vec![0] }
}

/// Checks the grade and, unless it is ok, a part of the fix.
fn check(finding: &Finding, want: Grade, fix: &str) {
    assert_eq!(finding.grade, want, "{finding:?}");
    assert_eq!(finding.fix.is_some(), want != Grade::Ok, "{finding:?}");
    assert!(finding.fix.as_deref().unwrap_or_default().contains(fix), "no {fix:?} in {finding:?}");
}

#[test]
fn clocks() {
    let second = 1_000_000;
    check(&clock("Postgres", (0, 0)), Grade::Ok, "");
    check(&clock("Postgres", (-2 * second, 0)), Grade::Ok, "");
    check(&clock("Postgres", (3 * second, 0)), Grade::Warning, "timedatectl");
    check(&clock("Postgres", (3 * second, 2 * second)), Grade::Ok, ""); // the answer took 4 s
    check(&clock("Postgres", (-61 * second, 0)), Grade::Problem, "timedatectl");
    check(&clock("Postgres", (i64::MIN, 0)), Grade::Problem, "timedatectl");
    let at = |micros: i64| TopicRecord { at: Some(Timestamp(micros)), ..TopicRecord::default() };
    assert_eq!(record_clock(&[], Timestamp(0)), None);
    assert_eq!(record_clock(&[at(-5), at(second)], Timestamp(0)), None);
    check(&record_clock(&[at(5 * second), at(0)], Timestamp(0)).unwrap(), Grade::Warning, "timedatectl");
    check(&record_clock(&[at(99 * second)], Timestamp(0)).unwrap(), Grade::Problem, "timedatectl");
}

#[test]
fn groups() {
    let view = |members: &[&str], reason: Reason, lag: i64, seconds: Option<i64>, stop: Option<Stop>| {
        let member = |id: &&str| GroupMember { id: (*id).to_owned(), client: String::new(), host: String::new() };
        let from = Offsets::from([(0, NextOffset(0))]);
        let state = PartitionState { partition: 0, committed: None, low: NextOffset(0), high: NextOffset(lag) };
        ProgressView {
            policy: Policy {
                group: "g".to_owned(),
                topics: "p.s.t".into(),
                folder: "checkpoints/g".to_owned(),
                start_at: StartAt::Earliest,
                resume_without_group: false,
            },
            topic: TopicState { cluster: None, partitions: vec![state] },
            group: GroupState { state: None, members: members.iter().map(member).collect() },
            folder: None,
            decision: Decision {
                start: Start::NewLineage,
                reason,
                from,
                fresh: Default::default(),
                kept: Offsets::new(),
                committed: None,
                expired: None,
                stop,
            },
            ages: BTreeMap::from([(0, seconds)]),
            now: Timestamp(0),
        }
    };
    let grades = |view: ProgressView| group(&config(""), &Ok(view)).iter().map(|f| f.grade).collect::<Vec<_>>();
    use Grade::{Ok as Fine, Problem, Warning};
    assert_eq!(grades(view(&[], Reason::Nothing, 5, Some(9), None)), [Fine, Fine, Fine]);
    assert_eq!(grades(view(&["a"], Reason::Agree, 5, Some(61), None)), [Fine, Fine, Warning]);
    assert_eq!(grades(view(&["a", "b"], Reason::FolderAhead(1), 0, None, None)), [Warning, Fine, Fine]);
    assert_eq!(grades(view(&[], Reason::MovedByHand, 0, None, None)), [Fine, Warning, Fine]);
    let stop = Some(Stop::OtherTopic("other".to_owned()));
    assert_eq!(grades(view(&[], Reason::Agree, 0, None, stop)), [Fine, Problem, Fine]);
}

#[test]
fn the_table_of_alerts() {
    let judged = |migrate: bool, found: Result<AlertsTable, Failure>| {
        let url = "postgres://u:hunter2@h/alerts";
        let found =
            alerts_table(&config(&format!("[alerts.postgres]\nurl = \"{url}\"\nmigrate = {migrate}\n")), &found);
        assert!(found.text.contains("u:***@h/alerts"), "{found:?}");
        found
    };
    let missing = |may_create| Ok(AlertsTable::Missing { may_create });
    let migrate = "tripline migrate --config FILE";
    check(&judged(true, missing(true)), Grade::Ok, "");
    check(&judged(true, missing(false)), Grade::Problem, migrate);
    check(&judged(false, missing(true)), Grade::Problem, migrate);
    check(&judged(true, Ok(AlertsTable::Older)), Grade::Ok, "");
    check(&judged(false, Ok(AlertsTable::Older)), Grade::Problem, migrate);
    check(&judged(false, Ok(AlertsTable::There { missing: None })), Grade::Ok, "");
    let grants = AlertsTable::There { missing: Some("GRANT INSERT".to_owned()) };
    check(&judged(true, Ok(grants)), Grade::Problem, "GRANT INSERT");
    let away = Failure::new(Exit::Unreachable, "down");
    let found = judged(true, Err(away));
    check(&found, Grade::Problem, "alerts.postgres.url");
    assert_eq!(found.exit, Exit::Unreachable);
}

#[test]
fn a_topic_that_ends_like_the_one_wanted_is_named() {
    let names = ["__consumer_offsets", "other.t", "x.y"].map(str::to_owned).to_vec();
    let found = broker(&config(""), &Ok(Broker { brokers: 1, names, ..Broker::default() }));
    check(&found[1], Grade::Problem, "those that are there: other.t;");
}

#[test]
fn a_right_that_is_missing_is_named() {
    let found = |topic: &str, rights: &[Right]| {
        let refused = [(topic.to_owned(), rights.iter().copied().collect())].into();
        let found = broker(&config("[alerts.kafka]"), &Ok(Broker { brokers: 1, refused, ..Broker::default() }));
        let found = found.into_iter().find(|found| found.text.contains("may not use"));
        found.unwrap_or_else(|| panic!("{topic}"))
    };
    let source = config("").source.topic;
    check(&found(&source, &[Right::Describe]), Grade::Problem, &format!("--operation READ --topic {source}"));
    check(&found("tripline.alerts", &[Right::Write]), Grade::Problem, "--operation WRITE --topic tripline.alerts");
    let episodes = found("tripline.episodes", &[Right::Describe]);
    check(&episodes, Grade::Problem, "--operation READ --operation WRITE --topic tripline.episodes");
    check(&found("tripline.episodes", &[Right::Read]), Grade::Problem, "User:NAME --operation READ --topic");
    assert_eq!(episodes.exit, Exit::Refused);
    let found = broker(&config(""), &Ok(Broker { group_refused: true, ..Broker::default() }));
    check(found.last().unwrap(), Grade::Problem, "--operation READ --group g");
    let found = broker(&config(""), &Ok(Broker { group_unjoinable: true, ..Broker::default() }));
    let group = found.iter().find(|found| found.check == "group").unwrap();
    check(group, Grade::Problem, "--operation READ --group g");
}

#[test]
fn a_refused_login_is_told_apart() {
    let check = |refused: Option<RefusedLogin>, want: &str| {
        let error = CallError::new("Kafka", "words that decide nothing", Kind::Refused).of_login(refused);
        let found = broker(&config(""), &Err(error.into()));
        check(&found[0], Grade::Problem, want);
    };
    check(Some(RefusedLogin::Certificate), "ssl.ca.location");
    check(Some(RefusedLogin::Token), ".client.secret");
    check(Some(RefusedLogin::Password), "SASL_PASSWORD");
    check(None, "SASL_PASSWORD");
}

#[test]
fn slots_and_publications() {
    let relation =
        Relation { table: Some(table()), identity: "d".to_owned(), usage: true, select: true, ..Relation::default() };
    let slot = |name: &str, active: bool, status: &str, lag: i64| Slot {
        name: name.to_owned(),
        active,
        wal_status: status.to_owned(),
        lag: Some(lag),
    };
    let judged = |slots: Vec<Slot>, connector: Option<&Connector>| {
        let publications = vec![Publication { name: "p'".to_owned(), has_table: true, ..Publication::default() }];
        let database = DatabaseFacts {
            relation: Some(relation.clone()),
            wal_level: "logical".to_owned(),
            publications,
            slots,
            ..DatabaseFacts::default()
        };
        let found = database::database(&config(""), Ok(&database), ("s", "t"), connector, None);
        let of = |check: &str| found.iter().rfind(|finding| finding.check == check).unwrap().clone();
        (of("publication"), of("slot"))
    };
    check(&judged(vec![slot("a", true, "reserved", 0)], None).1, Grade::Ok, "");
    check(&judged(vec![slot("a", true, "reserved", 2 << 30)], None).1, Grade::Warning, "heartbeat.interval.ms");
    check(&judged(vec![slot("a'b", true, "lost", 0)], None).1, Grade::Problem, "pg_drop_replication_slot('a''b')");
    check(
        &judged(vec![slot("a", true, "reserved", 0), slot("b", false, "reserved", 0)], None).1,
        Grade::Warning,
        "pg_drop_replication_slot('b')",
    );
    check(&judged(vec![slot("b", false, "reserved", 0)], None).1, Grade::Problem, "start the connector");
    check(&judged(vec![], None).1, Grade::Problem, "/stop");
    let pairs = [("plugin.name", "pgoutput"), ("slot.name", "b"), ("publication.name", "q\"")];
    let config = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let connector = Connector { config, ..Connector::default() };
    let (publication, slot) = judged(vec![slot("a", true, "reserved", 0)], Some(&connector));
    check(&slot, Grade::Problem, "/offsets");
    check(&publication, Grade::Problem, "CREATE PUBLICATION \"q\"\"\" FOR TABLE \"s\".\"t\"");
    check(&judged(vec![], Some(&Connector::default())).0, Grade::Ok, ""); // decoderbufs
}

#[test]
fn indexes() {
    let sql = "SELECT \"User \"\"x\"\"\", COUNT(*), SUM(ABS(amount)) AS total FROM s.t WHERE at > NOW() - INTERVAL '7 days' \
               GROUP BY \"User \"\"x\"\"\" HAVING SUM(amount) > 3";
    let query = compile(&parse(sql).unwrap(), &table()).unwrap();
    let judged = |sequential: bool, leads: bool, mib: i64, partitioned: bool| {
        let relation = Relation {
            bytes: mib << 20,
            partitioned,
            index_leads: if leads { vec!["User \"x\"".to_owned()] } else { vec![] },
            ..Relation::default()
        };
        let plan = Some(Ok(Plan { sequential, indexes: vec![] }));
        let facts = RuleFacts { name: "r".to_owned(), query: Some(query.clone()), plan, ..RuleFacts::default() };
        rules::rule(&facts, &relation).pop().unwrap()
    };
    check(&judged(false, false, 99, false), Grade::Ok, "");
    check(&judged(true, true, 1, false), Grade::Ok, "");
    check(&judged(true, false, 1, false), Grade::Warning, "CREATE INDEX CONCURRENTLY ON");
    check(&judged(true, true, 99, false), Grade::Warning, "ANALYZE \"s\".\"t\"");
    let whole = "CREATE INDEX CONCURRENTLY ON \"s\".\"t\" (\"User \"\"x\"\"\", \"at\") INCLUDE (\"amount\")";
    check(&judged(true, false, 99, false), Grade::Problem, whole);
    check(&judged(true, false, 99, true), Grade::Problem, "CREATE INDEX ON \"s\".\"t\"");
}

#[test]
fn connectors_by_topic() {
    let of = |pairs: &[(&str, &str)]| {
        let class = ("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        let config =
            pairs.iter().chain(&[class]).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        [Connector { name: "c".to_owned(), config, ..Connector::default() }]
    };
    let check = |pairs: &[(&str, &str)], topic: &str, want: bool| {
        assert_eq!(connect::of_topic(&of(pairs), topic, Some(("s", "t"))).is_some(), want, "{pairs:?} {topic}");
    };
    check(&[("topic.prefix", "p")], "p.s.t", true);
    check(&[("topic.prefix", "p.q")], "p.q.s.t", true);
    check(&[("topic.prefix", "p")], "p.s.u", false);
    check(&[("topic.prefix", "p"), ("topic.delimiter", "_")], "p_s_t", true);
    check(&[("topic.prefix", "")], ".s.t", false);
    // Debezium writes an underscore for a character that Kafka does not accept.
    let odd = |topic: &str, want: bool| {
        let connectors = of(&[("topic.prefix", "p")]);
        let found = connect::of_topic(&connectors, topic, Some(("My Schema", "Tab\u{e9}\u{1f600}")));
        assert_eq!(found.is_some(), want, "{topic}");
    };
    odd("p.My_Schema.Tab___", true);
    odd("p.My_Schema.Tab__", false);
    check(&[("transforms.r.replacement", "orders")], "orders", true);
    check(&[("topic.prefix", "p"), ("connector.class", "x.MySqlConnector")], "q.s.t", false);
}

#[test]
fn what_connect_answers() {
    let answer = json!({"my c": {
        "status": {"name": "my c", "connector": {"state": "RUNNING"},
                   "tasks": [{"id": 0, "state": "FAILED", "trace": "a.B: x\n\tat y\nCaused by: c.D: z\n\tat w"}]},
        "info": {"name": "my c", "config": {"topic.prefix": "p", "connector.class": "a.PostgresConnector", "tasks.max": "1"}},
    }});
    let found =
        connect::connectors(&answer, &json!([{"class": "x"}, {"class": "a.PostgresConnector", "version": "3.7.0"}]))
            .unwrap();
    assert_eq!(
        (found[0].name.as_str(), found[0].state.as_str(), found[0].setting("tasks.max", "")),
        ("my c", "RUNNING", "1")
    );
    assert_eq!(found[0].version.as_deref(), Some("3.7.0"));
    let judged = connect::connect(&config(""), "http://c:8083", &Ok(found), Some(("s", "t")), None);
    let task = judged.iter().find(|finding| finding.check == "task").unwrap();
    assert!(task.text.ends_with("FAILED: a.B: x … caused by c.D: z"), "{task:?}");
    check(
        task,
        Grade::Problem,
        "curl -X POST 'http://c:8083/connectors/my%20c/restart?includeTasks=true&onlyFailed=true'",
    );
    let of = |check: &str| judged.iter().find(|finding| finding.check == check).unwrap();
    check(of("operations"), Grade::Warning, "| jq '.\"skipped.operations\"=\"none\"' | curl -X PUT");
    check(of("nulls"), Grade::Warning, "source.connector_keeps_nulls = true");
    check(of("decimals"), Grade::Ok, ""); // precise, told from each value
    for foreign in [json!([]), json!({"a": 1}), json!({"a": {"info": {}, "status": {}}}), json!(null)] {
        assert_eq!(connect::connectors(&foreign, &json!(null)), None, "{foreign}");
    }
}

#[test]
fn settings_of_a_connector() {
    let judged = |more: &str, pairs: &[(&str, &str)], name: &str| {
        let standard = [
            ("connector.class", "a.PostgresConnector"),
            ("topic.prefix", "p"),
            ("value.converter", "JsonConverter"),
            ("value.converter.schemas.enable", "false"),
        ];
        let config_of: BTreeMap<String, String> =
            standard.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let connector =
            Connector { name: "c".to_owned(), state: "RUNNING".to_owned(), config: config_of, ..Connector::default() };
        let table = table();
        let found = connect::connect(
            &config(more),
            "http://c",
            &Ok(vec![connector]),
            Some(("s", "t")),
            Some((&table, &[1, 2, 3])),
        );
        found.into_iter().find(|finding| finding.check == name).unwrap()
    };
    let decimals = |ours: &str, mode: &str| {
        judged(&format!("decimals = \"{ours}\""), &[("decimal.handling.mode", mode)], "decimals")
    };
    let placeholder = |ours: &str, theirs: &str| {
        let ours = format!("unavailable_value_placeholder = \"{ours}\"");
        judged(&ours, &[("unavailable.value.placeholder", theirs)], "placeholder")
    };
    check(&judged("", &[], "placeholder"), Grade::Ok, "");
    check(&placeholder("__GONE__", "__GONE__"), Grade::Ok, "");
    let gone = judged("", &[("unavailable.value.placeholder", "__GONE__")], "placeholder");
    check(&gone, Grade::Problem, "source.unavailable_value_placeholder = \"__GONE__\"");
    check(
        &judged("", &[("decimal.handling.mode", "precise")], "nan"),
        Grade::Warning,
        "\"decimal.handling.mode\"=\"string\"",
    );
    check(&decimals("string", "string"), Grade::Ok, "");
    check(&decimals("auto", "precise"), Grade::Ok, "");
    check(&decimals("string", "precise"), Grade::Problem, "source.decimals = \"precise\"");
    check(&decimals("auto", "double"), Grade::Problem, "\"decimal.handling.mode\"=\"string\"");
    let schemas = [("decimal.handling.mode", "precise"), ("value.converter.schemas.enable", "true")];
    check(&judged("decimals = \"string\"", &schemas, "decimals"), Grade::Ok, "");
    check(&judged("", &[("time.precision.mode", "adaptive_time_microseconds")], "times"), Grade::Ok, "");
    check(&judged("", &[("time.precision.mode", "connect")], "times"), Grade::Warning, "source.times = \"connect\"");
    check(&judged("", &[("skipped.operations", "u,t")], "operations"), Grade::Problem, "none");
    check(&judged("", &[("tombstones.on.delete", "false")], "tombstones"), Grade::Warning, "true");
    check(&judged("", &[("value.converter.replace.null.with.default", "false")], "nulls"), Grade::Ok, "");
    check(&judged("connector_keeps_nulls = true", &[], "nulls"), Grade::Problem, "\"false\"");
    let avro = ("value.converter", "io.confluent.connect.avro.AvroConverter");
    let kept = [avro, ("value.converter.ignore.default.for.nullables", "true")];
    check(&judged("connector_keeps_nulls = true", &kept, "nulls"), Grade::Ok, "");
    check(
        &judged("connector_keeps_nulls = true", &[avro], "nulls"),
        Grade::Problem,
        "ignore.default.for.nullables\"=\"true\"",
    );
    let apicurio = [("value.converter", "io.apicurio.registry.utils.converter.AvroConverter")];
    let without_risk = judged("", &apicurio, "nulls");
    check(&without_risk, Grade::Ok, "");
    assert!(without_risk.text.contains("has no setting"), "{without_risk:?}");
}

#[test]
fn what_has_changed_since_windows_were_stored() {
    let contract = |identity: &str| Contract { replica_identity: identity.to_owned(), ..Contract::default() };
    let (then, now) = (contract("default"), contract("full"));
    assert_eq!(super::contract(None, Some(&now)), None);
    assert_eq!(super::contract(Some(&then), Some(&then)).map(|found| found.grade), Some(Grade::Ok));
    let changed = super::contract(Some(&then), Some(&now)).unwrap();
    assert_eq!(changed.grade, Grade::Warning);
    assert!(changed.text.contains("the replica identity was default and is full"), "{changed:?}");
}

#[test]
fn keys_of_records() {
    let record = |key: Option<&str>, value: &str| TopicRecord {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        ..TopicRecord::default()
    };
    let judged = |key: Option<&str>, identity: &str| {
        let value = "{\"op\":\"r\",\"source\":{},\"after\":{\"id\":1,\"User \\\"x\\\"\":2,\"amount\":\"5.00\",\"at\":\"2026-11-22T10:00:00Z\"}}";
        let newest = vec![record(None, "{\"op\":\"t\",\"source\":{\"lsn\":1}}"), record(key, value)];
        let topic = Topic { partitions: 1, newest, unread: None };
        records::records(&config(""), &topic, Some((&table(), &[1, 2, 3])), Some(identity))
    };
    let found = judged(Some("{\"id\":1}"), "d");
    check(&found[0], Grade::Ok, "");
    check(&found[1], Grade::Ok, "");
    check(&judged(Some("{\"schema\":{},\"payload\":{\"id\":1}}"), "d")[1], Grade::Ok, "");
    check(&judged(Some("{\"user_id\":1}"), "f")[1], Grade::Warning, "message.key.columns");
    check(&judged(Some("{\"user_id\":1}"), "d")[1], Grade::Problem, "ALTER TABLE \"s\".\"t\" REPLICA IDENTITY FULL");
    check(&judged(Some("7"), "d")[1], Grade::Problem, "message.key.columns");
    check(&judged(None, "d")[1], Grade::Problem, "message.key.columns");
}

#[test]
fn open_transactions() {
    let of = |held_up| {
        let transactional_id = "tripline-g-0".to_owned();
        transactions(&config("[alerts.kafka]"), &Broker { held_up, transactional_id, ..Broker::default() })
    };
    assert_eq!(of(None), []);
    check(&of(Some(Vec::new()))[0], Grade::Ok, "");
    let topic = "tripline.alerts".to_owned();
    let found = of(Some(vec![HeldUp { topic, partition: 2, stable: NextOffset(7), end: NextOffset(9) }]));
    check(&found[0], Grade::Warning, "abort --topic tripline.alerts --partition 2 --start-offset 7");
    assert!(found[0].text.contains("tripline-g-0"), "{found:?}");
}

#[test]
fn what_is_unwrapped_and_by_which_version() {
    let judged = |version: &str, table: &str, pairs: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let unwraps = [("transforms", "all, u"), ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState")];
        let config = unwraps.iter().chain(pairs).map(own).collect();
        let connector = Connector { version: Some(version.to_owned()), config, ..Connector::default() };
        let found = transforms::unwrapped(&connect::At { base: "http://c", connector: &connector });
        found.into_iter().chain(transforms::version(&connector, Some(("s", table)), None)).collect::<Vec<_>>()
    };
    let check_all = |found: Vec<Finding>, want: &[(Grade, &str)]| {
        assert_eq!(found.len(), want.len(), "{found:?}");
        found.iter().zip(want).for_each(|(finding, (grade, fix))| check(finding, *grade, fix));
    };
    use Grade::{Ok as Fine, Problem, Warning};
    const MODE: &str = "transforms.u.delete.tombstone.handling.mode";
    const FIELDS: &str = "transforms.u.add.fields";
    let (rewrite, fields) = ((MODE, "rewrite"), (FIELDS, "op, lsn,source.txId,source.ts_us"));
    let all = "op,lsn,txId,source.ts_us,source.schema,source.table";
    let routed = [
        ("transforms.all.type", "org.apache.kafka.connect.transforms.RegexRouter"),
        ("table.include.list", "s.t,s.other"),
        rewrite,
    ];
    check_all(judged("3.7.0.Final", "t", &[rewrite, fields]), &[(Fine, ""), (Fine, "")]);
    check_all(judged("3.7.0.Final", "t", &[fields]), &[(Fine, ""), (Fine, "")]);
    check_all(judged("2.7.4.Final", "t", &[fields]), &[(Warning, "\"=\"rewrite\""), (Fine, "")]);
    check_all(judged("3.7.0.Final", "t", &[(MODE, "drop"), fields]), &[(Warning, "\"=\"rewrite\""), (Fine, "")]);
    check_all(judged("2.6.1.Final", "t", &[rewrite]), &[(Warning, "op,lsn,txId"), (Warning, "newer")]);
    check_all(judged("2.7.4.Final", "tä", &[rewrite, fields]), &[(Fine, ""), (Problem, "Debezium 3")]);
    check_all(judged("3.0.0.Final", "tä", &[rewrite, fields]), &[(Fine, ""), (Fine, "")]);
    check_all(judged("3.7.0", "t", &[&routed[..], &[fields]].concat()), &[(Problem, all), (Fine, "")]);
    check_all(judged("3.7.0", "t", &[&routed[..], &[(FIELDS, all)]].concat()), &[(Fine, ""), (Fine, "")]);
    let one = [routed[0], ("table.include.list", "s.t"), rewrite, fields];
    check_all(judged("unknown", "t", &one), &[(Fine, "")]);
}

#[test]
fn versions_of_postgres() {
    let of = |version: &str| {
        let facts = DatabaseFacts { version: version.to_owned(), ..DatabaseFacts::default() };
        database::database(&config(""), Ok(&facts), ("s", "t"), None, None).remove(0)
    };
    check(&of("18.6"), Grade::Ok, "");
    check(&of("14.0 (Debian)"), Grade::Ok, "");
    check(&of("19beta1"), Grade::Ok, "");
    check(&of("13.22"), Grade::Warning, "14 or later");
    check(&of("12.1"), Grade::Problem, "13 or later");
    assert_eq!(of("12.1").exit, Exit::Misconfigured);
}
