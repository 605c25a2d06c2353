//! Configuration: layers, typed reading, and the exact text of every error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity, reason = "tests")]

mod archive;
mod sources;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tripline::change::debezium::{BinaryHandling, DecimalHandling, TimePrecision};
use tripline::config::{
    self, Alerts, Audit, Checkpoint, Config, Kafka, KafkaAlerts, Limits, Log, OnBadRecord, OnRuleChange, Postgres,
    PostgresAlerts, RuleSettings, Source, SourceFormat, WhenGroupIsMissing, redact_url,
};
use tripline::progress::StartAt;
use tripline::rule::text::Pace;
use tripline::rule::{Confirm, Evaluate, Time};
use tripline::telemetry::Format;

/// The README's minimal file.
const README: &str = r#"
[kafka]
bootstrap_servers = "localhost:29092"
group_id = "flink-monitor-group-v3"     # change it to reprocess from the beginning
auto_offset_reset = "earliest"
[source]
topic = "postgres.streaming.transactions"
[postgres]
url = "postgres://postgres@localhost:15432/postgres"
[checkpoint]
dir = "checkpoints"
trigger_interval_ms = 1000
[[rules]]
name = "weekly-spend"
severity = "critical"
message = "User {user_id} (${total})"
sql = """
SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '7 days'
GROUP BY user_id
HAVING SUM(ABS(amount)) > 3000
"""
[alerts.log]
[alerts.kafka]
topic = "tripline.alerts"
"#;

const SQL: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '7 days'
GROUP BY user_id
HAVING SUM(ABS(amount)) > 3000
";

/// The required settings and nothing else. Cases write at its placeholders.
const MINIMAL: &str = r#"
#root
[kafka]
group_id = "g"
#kafka
[source]
topic = "t"
#source
[postgres]
url = "postgres://localhost/db"
#postgres
[[rules]]
name = "r"
sql = "SELECT 1"
#rule
#end
"#;

/// Loads `text` from a file, whose path reads `FILE` in errors.
fn load(text: impl AsRef<[u8]>, env: &[(&str, &str)]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("a writable temporary file");
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::load(file.path(), env)
        .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
}

/// `MINIMAL` with `text` at `place`, or without the line of `-key`, or with `text` for the line of `@key`.
fn edited(place: &str, text: &str) -> String {
    let (old, place) = match (place.strip_prefix('-'), place.strip_prefix('@')) {
        (Some(key), _) | (_, Some(key)) => (format!("{key} = "), ""),
        _ => (format!("#{place}"), place),
    };
    let mut found = 0;
    let mut edited = String::new();
    for line in MINIMAL.lines() {
        let here = if place.is_empty() { line.starts_with(&old) } else { line == old };
        found += usize::from(here);
        edited.push_str(if here { text } else { line });
        edited.push('\n');
    }
    assert_eq!(found, 1, "{place} {old}");
    edited
}

#[test]
fn the_file_of_the_readme() {
    let source = Source {
        topic: "postgres.streaming.transactions".to_owned(),
        table: None,
        format: SourceFormat::Auto,
        schema_registry: None,
        decimals: DecimalHandling::Auto,
        times: TimePrecision::Adaptive,
        binary: BinaryHandling::Auto,
        unavailable_value_placeholder: "__debezium_unavailable_value".to_owned(),
        connector_keeps_nulls: false,
        on_bad_record: OnBadRecord::DeadLetter,
        dead_letter_topic: "tripline.dead-letter".to_owned(),
    };
    let expected = Config {
        startup_wait: Duration::from_secs(30),
        kafka: Kafka {
            bootstrap_servers: "localhost:29092".to_owned(),
            group_id: "flink-monitor-group-v3".to_owned(),
            auto_offset_reset: StartAt::Earliest,
            when_group_is_missing: WhenGroupIsMissing::Reprocess,
            transaction_timeout: Duration::from_secs(10),
            properties: BTreeMap::new(),
        },
        source: source.clone(),
        sources: vec![source],
        postgres: Postgres {
            url: "postgres://postgres@localhost:15432/postgres".to_owned(),
            statement_timeout: Duration::from_secs(5),
            max_connections: 4,
            keys_per_statement: 500,
            sweep_interval: None,
            time_zone: None,
        },
        checkpoint: Checkpoint {
            dir: PathBuf::from("checkpoints"),
            trigger_interval: Duration::from_secs(1),
            state_interval: Duration::from_secs(60),
            on_rule_change: OnRuleChange::Carry,
            episodes_topic: "tripline.episodes".to_owned(),
        },
        audit: Audit { period: Duration::from_secs(600), max_database_share: 10_000 },
        limits: Limits::default(),
        rules: vec![RuleSettings {
            name: "weekly-spend".to_owned(),
            severity: "critical".to_owned(),
            message: Some("User {user_id} (${total})".to_owned()),
            sql: SQL.to_owned(),
            time: Time::Processing,
            confirm: Confirm::Required,
            time_zone: None,
            evaluate: Evaluate::Auto,
            key: Vec::new(),
            pace: Pace {
                max_delay: Duration::from_secs(1),
                recheck: Duration::from_secs(60),
                sweep: Duration::from_secs(300),
            },
        }],
        alerts: Alerts { log: true, kafka: Some(KafkaAlerts { topic: "tripline.alerts".to_owned() }), postgres: None },
        web: None,
        connect: None,
        log: Log { level: "info".to_owned(), format: Format::Text },
    };
    assert_eq!(load(README, &[]), Ok(expected));
}

#[test]
fn the_built_in_file_says_what_is_built_in() {
    let text = include_str!("../../config/default.toml");
    assert_eq!(
        load(text, &[]),
        Err([
            "FILE: kafka.group_id: required, and not set; write it in the file or set TRIPLINE__KAFKA__GROUP_ID",
            "FILE: source.topic: required, and not set; write it in the file or set TRIPLINE__SOURCE__TOPIC",
            "FILE: postgres.url: required, and not set; write it in the file or set TRIPLINE__POSTGRES__URL",
            "FILE: rules: at least one rule is needed; write one as a [[rules]] table",
        ]
        .join("\n"))
    );
    // Its examples, uncommented, are the README's rule and sinks. A source is in one of two places.
    let examples = |is_left_out: &dyn Fn(&str, &str) -> bool| -> String {
        let mut section = String::new();
        let uncommented = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(code) if is_example(code) => code,
            _ => line,
        });
        let kept = uncommented.filter(|line| {
            if line.starts_with('[') {
                (*line).clone_into(&mut section);
            }
            !is_left_out(&section, line)
        });
        kept.map(|line| format!("{line}\n")).collect()
    };
    let one = examples(&|section, _| section == "[[sources]]");
    let loaded = load(one, &[]).map(|config| (config.kafka.properties.len(), config.rules, config.alerts));
    let several = examples(&|section, line| {
        section == "[source]" && (line.starts_with("topic = ") || line.starts_with("table = "))
    });
    let several = load(several, &[]).unwrap();
    assert_eq!(
        several.sources.iter().map(|source| source.topic.as_str()).collect::<Vec<_>>(),
        ["postgres.streaming.limits"]
    );
    let readme = load(format!("{README}{TABLE}"), &[]);
    let with_zone = readme.map(|mut config| {
        for rule in &mut config.rules {
            (rule.time_zone, rule.key) = (Some("America/Sao_Paulo".to_owned()), vec!["user_id".to_owned()]);
        }
        (3, config.rules, config.alerts)
    });
    assert_eq!(loaded, with_zone);
}

/// The example of a sink that the README's file does not have.
const TABLE: &str = r#"
[alerts.postgres]
url = "postgres://tripline_writer:password@localhost:5432/postgres"
"#;

fn is_example(line: &str) -> bool {
    let name = line.split(" = ").next().unwrap_or_default();
    let is_name = line.contains(" = ") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.\"".contains(&b));
    let sql = ["SELECT ", "FROM ", "WHERE ", "GROUP BY ", "HAVING ", "\"\"\""];
    is_name || line.starts_with('[') || sql.iter().any(|start| line.starts_with(start))
}

#[test]
fn later_layers_win() {
    let get = |config: Config| (config.checkpoint.trigger_interval.as_millis(), config.kafka.bootstrap_servers);
    let file = format!("{MINIMAL}\n[checkpoint]\ntrigger_interval_ms = 200\n");
    let env =
        [("TRIPLINE__CHECKPOINT__TRIGGER_INTERVAL_MS", "300"), ("TRIPLINE__KAFKA__BOOTSTRAP_SERVERS", "a:1, [::1]:2")];
    let cases: [(&str, &[(&str, &str)], (u128, &str)); 3] = [
        (MINIMAL, &[], (1000, "localhost:9092")),
        (&file, &[], (200, "localhost:9092")),
        (&file, &env, (300, "a:1, [::1]:2")),
    ];
    for (file, env, (interval, servers)) in cases {
        assert_eq!(load(file, env).map(get), Ok((interval, servers.to_owned())), "{file} {env:?}");
    }
}

#[test]
fn the_environment_is_text_and_becomes_what_is_wanted() {
    let env = [
        ("TRIPLINE__STARTUP_WAIT_MS", " 0 "),
        ("TRIPLINE__KAFKA__GROUP_ID", "007"),
        ("TRIPLINE__KAFKA__AUTO_OFFSET_RESET", "latest"),
        ("TRIPLINE__KAFKA__PROPERTIES__SASL_PASSWORD", "1e3"),
        ("TRIPLINE__KAFKA__PROPERTIES__LOG__LEVEL", "7"),
        ("TRIPLINE__SOURCE__CONNECTOR_KEEPS_NULLS", "TRUE"),
        ("TRIPLINE__SOURCE__TIMES", "isostring"),
        ("TRIPLINE__SOURCE__DECIMALS", "precise"),
        ("TRIPLINE__SOURCE__ON_BAD_RECORD", "stop"),
        ("TRIPLINE__POSTGRES__MAX_CONNECTIONS", "8"),
        ("TRIPLINE__ALERTS__KAFKA__TOPIC", "alerts"),
        ("TRIPLINE__LOG__FORMAT", "json"),
        ("TRIPLINE__LOG__LEVEL", "warn,tripline::source=debug"),
        ("TRIPLINE_HOME", "not a setting"),
        ("PATH", "/bin"),
    ];
    let config = load(MINIMAL, &env).expect("a valid configuration");
    assert_eq!(config.startup_wait, Duration::ZERO);
    assert_eq!(config.kafka.group_id, "007");
    assert_eq!(config.kafka.auto_offset_reset, StartAt::Latest);
    let properties = [("log_level", "7"), ("sasl.password", "1e3")];
    assert_eq!(config.kafka.properties, properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(config.source.connector_keeps_nulls);
    assert_eq!(config.source.times, TimePrecision::Isostring);
    assert_eq!(config.source.decimals, DecimalHandling::Precise);
    assert_eq!(config.source.on_bad_record, OnBadRecord::Stop);
    assert_eq!(config.postgres.max_connections, 8);
    assert_eq!(
        config.alerts,
        Alerts { log: false, kafka: Some(KafkaAlerts { topic: "alerts".to_owned() }), postgres: None }
    );
    assert_eq!(config.log, Log { level: "warn,tripline::source=debug".to_owned(), format: Format::Json });
}

#[test]
fn properties_become_dotted_names() {
    let file = edited(
        "kafka",
        r#"
        [kafka.properties]
        "security.protocol" = "SSL"
        sasl.username = "bob"
        sasl.password = "in the file"
        ssl.ca.location = "ca.pem"
        fetch.wait.max.ms = 50
        log_level = 6
        "socket.keepalive.enable" = true
        "some.factor" = 1.5
        "#,
    );
    let expected = [
        ("fetch.wait.max.ms", "50"),
        ("log_level", "6"),
        ("sasl.password", "in the environment"),
        ("sasl.username", "bob"),
        ("security.protocol", "PLAINTEXT"),
        ("socket.keepalive.enable", "true"),
        ("some.factor", "1.5"),
        ("ssl.ca.location", "ca.pem"),
    ];
    let env = [
        ("TRIPLINE__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "PLAINTEXT"),
        ("TRIPLINE__KAFKA__PROPERTIES__SASL_PASSWORD", "in the environment"),
    ];
    let properties = load(file, &env).map(|config| config.kafka.properties);
    assert_eq!(properties, Ok(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()));
}

#[test]
fn sinks_are_on_by_presence() {
    let kafka = |topic: &str| Some(KafkaAlerts { topic: topic.to_owned() });
    let table = |url: &str, migrate| Some(PostgresAlerts { url: url.to_owned(), migrate });
    let own = "postgres://localhost/db";
    let cases = [
        ("", (true, None, None)),
        ("[alerts]", (true, None, None)),
        ("[alerts.log]", (true, None, None)),
        ("[alerts.kafka]", (false, kafka("tripline.alerts"), None)),
        ("[alerts.kafka]\ntopic = \"a\"", (false, kafka("a"), None)),
        ("[alerts.kafka]\n[alerts.log]", (true, kafka("tripline.alerts"), None)),
        ("[alerts.postgres]", (false, None, table(own, true))),
        ("[alerts.postgres]\nmigrate = false\n[alerts.log]", (true, None, table(own, false))),
        ("[alerts.postgres]\nurl = \"postgres://w@h/x\"", (false, None, table("postgres://w@h/x", true))),
    ];
    for (text, (log, kafka, postgres)) in cases {
        let loaded = load(edited("end", text), &[]).map(|config| config.alerts);
        assert_eq!(loaded, Ok(Alerts { log, kafka, postgres }), "{text}");
    }
}

#[test]
fn where_the_table_is() {
    let check = |text: &str, want: (&str, &'static str)| {
        let config = load(edited("end", text), &[]).expect("a valid configuration");
        assert_eq!(config.table_url(), want, "{text}");
    };
    check("", ("postgres://localhost/db", "postgres.url"));
    check("[alerts.postgres]", ("postgres://localhost/db", "postgres.url"));
    check("[alerts.postgres]\nurl = \"postgres://h/x\"", ("postgres://h/x", "alerts.postgres.url"));
}

#[test]
fn every_error_has_its_text() {
    let mut lines = include_str!("errors.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let (Some(case), Some(expected)) = (lines.next(), lines.next()) {
        let expected = expected.strip_prefix("    ").expect("an indented error after each case");
        let (got, origin) = match case.split_once('=') {
            Some((name, value)) if name.starts_with("TRIPLINE__") => {
                (load(MINIMAL, &[(name, value)]), format!("environment variable {name}"))
            }
            _ => {
                let (place, text) = case.split_once(':').expect("a place");
                (load(edited(place, &text.trim().replace(" ⏎ ", "\n")), &[]), "FILE".to_owned())
            }
        };
        assert_eq!(got.map(drop), Err(format!("{origin}: {expected}")), "{case}");
    }
}

#[test]
fn variables_that_contradict_each_other() {
    let both = [("TRIPLINE__SOURCE__TOPIC", "a"), ("TRIPLINE__source__topic", "b")];
    let expected = "environment variable TRIPLINE__source__topic: source.topic: given twice, in capitals and in small letters; unset one";
    assert_eq!(load(MINIMAL, &both).map(drop), Err(expected.to_owned()));
    let both = [("TRIPLINE__LOG", "a"), ("TRIPLINE__LOG__LEVEL", "info")];
    let expected = "environment variable TRIPLINE__LOG__LEVEL: log.level: the part before it is set as a value by another variable; unset one\n\
                    environment variable TRIPLINE__LOG: log: a section, not a value; write [log] in the file";
    assert_eq!(load(MINIMAL, &both).map(drop), Err(expected.to_owned()));
}

#[test]
fn all_problems_at_once() {
    let file = "log = 1\nrules = 5\n[kafka]\ngroup_id = 5\ntopic = \"t\"\n[checkpoint]\ntrigger_interval_ms = 1\n";
    let expected = [
        "FILE: log: a section, not a value; write [log] in the file",
        "FILE: kafka.group_id: must be text in quotes; it is a whole number",
        "FILE: kafka.topic: unknown key; known here: bootstrap_servers, group_id, auto_offset_reset, when_group_is_missing, transaction_timeout_ms, properties",
        "FILE: source.topic: required, and not set; write it in the file or set TRIPLINE__SOURCE__TOPIC",
        "FILE: postgres.url: required, and not set; write it in the file or set TRIPLINE__POSTGRES__URL",
        "FILE: checkpoint.trigger_interval_ms: must be a whole number from 10 to 600000; it is 1",
        "FILE: rules: must be a list of tables; write [[rules]]; it is a whole number",
    ];
    assert_eq!(load(file, &[]).map(drop), Err(expected.join("\n")));
    let none = MINIMAL.split("[[rules]]").next().unwrap_or_default();
    let expected = "FILE: rules: at least one rule is needed; write one as a [[rules]] table";
    assert_eq!(load(none, &[]).map(drop), Err(expected.to_owned()));
    assert_eq!(load(format!("rules = []\n{none}"), &[]).map(drop), Err(expected.to_owned()));
}

#[test]
fn files_that_cannot_be_read() {
    let read = |path: &Path| config::load(path, []).map(drop).map_err(|error| error.to_string());
    let advice = "give the path of a readable file with --config";
    // The `config` crate would find nowhere.toml for the second.
    for path in ["nowhere.toml", "Cargo"] {
        let expected =
            format!("cannot read the configuration file {path}: No such file or directory (os error 2); {advice}");
        assert_eq!(read(Path::new(path)), Err(expected));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let expected =
        format!("cannot read the configuration file {}: Is a directory (os error 21); {advice}", dir.path().display());
    assert_eq!(read(dir.path()), Err(expected));
    let large = load("#".repeat(1024 * 1024 + 1), &[]).map(drop);
    assert_eq!(large, Err(format!("cannot read the configuration file FILE: it is larger than 1 MiB; {advice}")));
    let binary = load(b"a = 1\n# caf\xe9\n", &[]).map(drop);
    assert_eq!(binary, Err("FILE: line 2: not UTF-8; save the file as UTF-8".to_owned()));
    assert!(load(format!("\u{feff}{MINIMAL}"), &[]).is_ok());
}

#[test]
fn deep_nesting_is_an_error() {
    let key = ["a"; 78].join(".");
    let bomb = (0..75).fold("1".to_owned(), |value, _| format!("{{{key}={value}}}"));
    let too_deep = "FILE: keys nest more than 32 deep; no setting does";
    let cases = [
        (format!("[{key}]\n{key} = {bomb}"), too_deep),
        (format!("[kafka.properties]\n{key} = 1"), too_deep),
        (format!("{}a = 1", "a.".repeat(200_000)), "FILE: a value cannot be read: recursion limit"),
    ];
    for (text, expected) in cases {
        assert_eq!(load(&text, &[]).map(drop), Err(expected.to_owned()), "{:.80}", text);
    }
    let env = [(format!("TRIPLINE__{}A", "A__".repeat(100_000)), String::new())];
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let error = config::load(file.path(), env).map(drop).map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("not of the form TRIPLINE__SECTION__KEY")));
}

#[test]
fn urls_that_postgres_takes() {
    for url in [
        "postgres://u:p%40ss@h:5432/db?sslmode=verify-full&application_name=x",
        "postgresql:///db?host=/run/postgresql&options[search_path]=x",
        "postgres://[::1]",
    ] {
        let got = load(MINIMAL, &[("TRIPLINE__POSTGRES__URL", url)]).map(|config| config.postgres.url);
        assert_eq!(got, Ok(url.to_owned()));
    }
}

#[test]
fn secrets_are_not_shown() {
    let cases = [
        ("postgres://postgres@localhost:15432/postgres", "postgres://postgres@localhost:15432/postgres"),
        ("postgres://localhost", "postgres://localhost"),
        ("postgres://u:hunter2@h:5432/db", "postgres://u:***@h:5432/db"),
        ("postgresql://u:hunter2@[::1]/db", "postgresql://u:***@[::1]/db"),
        ("postgres://u:@h/db", "postgres://u:***@h/db"),
        ("postgres://:hunter2@h/db", "postgres://:***@h/db"),
        (
            "postgres://h/db?user=u&password=hunter2&sslmode=require",
            "postgres://h/db?user=u&password=***&sslmode=require",
        ),
        ("postgres://h/db?pass%77ord=hunter2", "postgres://h/db?***=***"),
        ("postgres://h/db?sslkey=hunter2#hunter2", "postgres://h/db?sslkey=***"),
        // Characters that should have been percent-encoded.
        ("postgres://u:hun@ter2@h/db", "postgres://u:***@h/db"),
        ("postgres://u:hun/ter2@h/db", "postgres://u:***@h/db"),
        ("postgres://u:hun#ter2@h/db", "postgres://u:***@h/db"),
        ("postgres://u:hun?ter2@h/db", "postgres://***"),
        ("postgres://u:hunter2/db", "postgres://***"),
        ("postgres://h/db?password=hun@ter2", "postgres://***"),
        ("postgres://", "postgres://"),
        ("host=h password=hunter2", "***"),
        ("mysql://u:hunter2@h", "***"),
        ("", "***"),
    ];
    for (url, expected) in cases {
        assert_eq!(redact_url(url), expected, "{url}");
    }

    let env = [
        ("TRIPLINE__POSTGRES__URL", "postgres://u:hunter2@h/db"),
        ("TRIPLINE__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("TRIPLINE__ALERTS__POSTGRES__URL", "postgres://w:hunter2@h/db"),
    ];
    let config = load(MINIMAL, &env).expect("a valid configuration");
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains(r#"properties: {"sasl.password": "***"}"#), "{shown}");
    assert!(shown.contains(r#"url: "postgres://u:***@h/db""#), "{shown}");
    assert!(shown.contains(r#"url: "postgres://w:***@h/db""#), "{shown}");

    // A secret in a place where it is wrong.
    let wrong = [
        edited("kafka", "properties.\"sasl.password\" = [\"hunter2\"]"),
        edited("kafka", "properties.\"sasl.password\" = \"hunter2"),
        edited("kafka", "properties = \"hunter2\""),
        MINIMAL.replace("url = \"postgres://localhost/db\"", "url = [\"postgres://u:hunter2@h\"]"),
        edited("@url", "pasword = \"hunter2\""),
        edited("@url", "url = postgres://u:hunter2@h"),
    ];
    for file in wrong {
        let error = load(&file, &[]).map(drop).expect_err("a wrong file");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_page_is_off_unless_its_section_is_there() {
    let web = |text: &str| load(edited("end", text), &[]).unwrap().web.map(|web| (web.listen.to_string(), web.hosts));
    assert_eq!(web(""), None);
    assert_eq!(web("[web]"), Some(("127.0.0.1:8787".to_owned(), Vec::new())));
    let hosts = vec!["a.example".to_owned(), "b.example".to_owned()];
    let remote = "[web]\nlisten = \"0.0.0.0:80\"\nallow_remote = true\nhosts = \"a.example, b.example\"";
    assert_eq!(web(remote), Some(("0.0.0.0:80".to_owned(), hosts)));
    assert_eq!(web("[web]\nlisten = \"[::1]:1\""), Some(("[::1]:1".to_owned(), Vec::new())));
}
