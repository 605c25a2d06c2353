//! docker-compose.yml and the chart stay in step with what the tests run on. No container is started: that needs an engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;

use tripline::change::debezium::DecimalHandling;
use tripline::config;

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rest of the line after each occurrence of this word in the compose file.
fn after<'a>(compose: &'a str, word: &str) -> Vec<&'a str> {
    compose.lines().filter_map(|line| line.trim().strip_prefix(word)).map(str::trim).collect()
}

#[test]
fn versions_are_those_of_the_tests() {
    let (compose, stack) = (text("docker-compose.yml"), text("scripts/stack"));
    let version = |name: &str| {
        let start = format!("STACK_{name}_VERSION=${{STACK_{name}_VERSION:-");
        let line = stack.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        line.trim_end_matches('}').to_owned()
    };
    let debezium = format!("quay.io/debezium/connect:{}", version("DEBEZIUM"));
    let kafka = format!("apache/kafka:{}", version("KAFKA"));
    assert_eq!(after(&compose, "image:"), ["postgres:15", &kafka, &debezium, &debezium, "tripline:local"]);
    // That this tag has not been pulled is said, by its name.
    assert!(text("docs/containers.md").contains(&format!("has the tag `{}`", version("DEBEZIUM"))));
    let rust = format!("FROM rust:{}-bookworm AS build", env!("CARGO_PKG_RUST_VERSION"));
    assert!(text("Dockerfile").contains(&rust), "{rust}");
}

#[test]
fn ports_are_of_the_loopback_and_mounts_are_there() {
    let compose = text("docker-compose.yml");
    let items = after(&compose, "- ");
    let (mut ports, mut mounts) = (0, 0);
    for item in &items {
        if let Some(path) = item.strip_prefix("./") {
            let path = path.split(':').next().unwrap();
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file(), "{path} is not there");
            assert!(item.ends_with(":ro"), "{item} could be written from the container");
            mounts += 1;
        } else if item.bytes().all(|byte| byte.is_ascii_digit() || b".:".contains(&byte)) {
            assert!(item.starts_with("127.0.0.1:"), "{item} is open to other machines");
            ports += 1;
        }
    }
    assert_eq!((ports, mounts), (4, 5), "{items:?}");
}

#[test]
fn the_configuration_fits_the_containers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/compose.toml");
    let compose = text("docker-compose.yml");
    let url = after(&compose, "TRIPLINE__POSTGRES__URL:").remove(0).to_owned();
    let read = config::load(&file, [("TRIPLINE__POSTGRES__URL".to_owned(), url)]).unwrap();
    assert_eq!(read.kafka.bootstrap_servers, "kafka:9092");
    assert!(compose.contains("container_name: kafka_broker\n    hostname: kafka\n"));
    assert!(compose.contains("CONTAINERS://kafka:9092,"));
    assert!(
        compose.contains("- tripline-data:/var/lib/tripline\n") && read.checkpoint.dir.starts_with("/var/lib/tripline")
    );
    assert_eq!(read.connect.unwrap().url, after(&compose, "CONNECT_URL:").remove(0));
    let page = read.web.unwrap().listen;
    assert!(
        after(&compose, "- ").contains(&format!("127.0.0.1:{0}:{0}", page.port()).as_str())
            && page.ip().is_unspecified()
    );
    // The example's settings, but for where the servers are.
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.toml");
    let example = config::load(&example, Vec::new()).unwrap();
    assert_eq!(
        (read.rules, read.source.topic, read.kafka.group_id),
        (example.rules, example.source.topic, example.kafka.group_id)
    );
    // What it says of the connector is what the connector is set to.
    let connector: serde_json::Value =
        serde_json::from_str(&text("scripts/stack.d/connector-transactions.json")).unwrap();
    assert_eq!(connector["decimal.handling.mode"], "string");
    assert_eq!(read.source.decimals, DecimalHandling::String);
    assert_eq!(connector["value.converter.replace.null.with.default"], "false");
    assert!(read.source.connector_keeps_nulls);
}

/// The chart's example is a configuration, and its paths and port are those of the templates.
#[test]
fn the_chart_fits_the_program() {
    let (values, pod) = (text("charts/tripline/values.yaml"), text("charts/tripline/templates/statefulset.yaml"));
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text("charts/tripline/Chart.yaml").lines().any(|line| line == version), "{version}");
    let (_, config) = values.split_once("\nconfig: |\n").unwrap();
    let lines = config.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    let config: Vec<&str> = lines.map(|line| line.strip_prefix("  ").unwrap_or_default()).collect();
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), config.join("\n")).unwrap();
    let url = ("TRIPLINE__POSTGRES__URL".to_owned(), "postgres://tripline@db/shop".to_owned());
    let read = config::load(file.path(), [url]).unwrap();
    assert!(read.checkpoint.dir.starts_with("/var/lib/tripline") && pod.contains("mountPath: /var/lib/tripline }"));
    let page = read.web.unwrap().listen;
    assert!(page.ip().is_unspecified() && values.contains(&format!("\n  port: {}\n", page.port())));
    // The user of the image owns the volume.
    assert!(text("Dockerfile").contains("USER 10001:10001") && pod.contains("fsGroup: 10001"));
}

/// The file that the README has copied is whole.
#[test]
fn the_file_to_copy_loads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/your-stack.toml");
    let read = config::load(&file, Vec::new()).unwrap();
    assert_eq!(read.rules.len(), 1);
    assert!(read.web.is_some() && read.alerts.kafka.is_some());
}

#[test]
fn registering_fills_in_every_name_in_braces() {
    let (connector, script) = (text("scripts/stack.d/connector-transactions.json"), text("docker/register-connector"));
    let mut filled = connector.clone();
    for name in ["{HOST}", "{PG_PORT}", "not needed on loopback"] {
        assert!(connector.contains(name) && script.contains(&format!("s|{name}|")), "{name}");
        filled = filled.replace(name, "x");
    }
    assert_eq!(filled.matches('{').count(), 1, "a name is left: {filled}");
}
