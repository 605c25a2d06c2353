//! Secrets and personal data: what no log, error and report says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::harness::{Database, Job, Record, Table, kafka};

const SECRET: &str = "hunter2";

fn said(done: &Output) -> String {
    let text = [&done.stdout[..], &done.stderr[..]].concat();
    format!("exit code {:?}\n{}", done.status.code(), String::from_utf8_lossy(&text))
}

/// Asked of every command that opens a client of Kafka.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_property_is_named_without_its_value() {
    let (database, folder) = (Database::new("properties"), tempfile::tempdir().unwrap());
    let mut job = Job::new(folder.path(), &database.name, &database.name, "no.such.topic");
    job.top = "startup_wait_ms = 1000".to_owned();
    let with = |name: &'static str| {
        let mut job = job.clone();
        job.environment.push((name, SECRET.to_owned()));
        job
    };
    let cases = [
        // One `_` too many.
        ("TRIPLINE__KAFKA__PROPERTIES__SASL__PASSWORD", "sasl_password is not a setting of librdkafka"),
        ("TRIPLINE__KAFKA__PROPERTIES__SASL_PASWORD", "sasl.pasword is not a setting of librdkafka"),
        ("TRIPLINE__KAFKA__PROPERTIES__SSL_KEY_PASSPHRASE", "ssl.key.passphrase is not a setting of librdkafka"),
        ("TRIPLINE__KAFKA__PROPERTIES__SOCKET_TIMEOUT_MS", "the value of socket.timeout.ms is not valid"),
        // One `_` too few.
        ("TRIPLINE__KAFKA_PROPERTIES__SASL_PASSWORD", "kafka_properties: unknown section"),
        ("TRIPLINE__POSTGRES__URL__PASSWORD", "postgres.url: "),
    ];
    for (name, want) in cases {
        let job = with(name);
        for command in [&["run", "--until-end"][..], &["doctor", "--output", "json"], &["offsets"]] {
            let done = job.command(command).output().unwrap();
            let said = said(&done);
            assert!(said.contains(want) && !said.contains(SECRET), "{name} {command:?}: {said}");
            assert_eq!(done.status.code(), Some(2), "{name} {command:?}: {said}");
        }
    }
}

/// Answers one request with a redirection to an address without a listener. Returns the request.
fn redirecting(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap();
    stream
        .write_all(
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    String::from_utf8_lossy(&request[..read]).into_owned()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_login_of_connect_is_sent_and_not_said() {
    let (database, folder) = (Database::new("connect_login"), tempfile::tempdir().unwrap());
    let job = Job::new(folder.path(), &database.name, &database.name, "no.such.topic");
    let ask = |url: &str| {
        let done = job.command(&["doctor", "--output", "json", "--connect", url]).output().unwrap();
        let said = said(&done);
        assert!(!said.contains(SECRET) && !said.contains("bob"), "{url}: {said}");
        (done.status.code(), said)
    };
    // The parser of a command line would repeat its argument.
    for wrong in
        [&format!("http://bob:{SECRET} @x"), &format!("bob:{SECRET}@host:8083"), &format!("http://bob:{SECRET}@")]
    {
        let (code, said) = ask(wrong);
        assert!(code == Some(2) && said.contains("--connect must be a URL of the form"), "{said}");
    }
    let (_, said) = ask(&format!("http://bob:{SECRET}@no-such-host.invalid:8083"));
    assert!(said.contains("http://no-such-host.invalid:8083"), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://bob:{SECRET}@{}", listener.local_addr().unwrap());
    let (request, (_, said)) = std::thread::scope(|scope| {
        let request = scope.spawn(|| redirecting(&listener));
        let asked = ask(&url);
        (request.join().unwrap(), asked)
    });
    let request = request.to_lowercase();
    assert!(request.contains("authorization: basic ym9iomh1bnrlcji="), "{request}");
    assert!(said.contains("\"connect\""), "{said}");
}

/// A record that a converter has encoded twice, one of 900 KB, and one that would write to the terminal.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_row_is_not_logged() {
    let t = Table::new("row_in_log");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let real = String::from_utf8(kafka::records(t.topic(), 0)[0].value.clone().unwrap()).unwrap();
    let record = |value: String| Record {
        key: Some(br#"{"id":2}"#.to_vec()),
        value: Some(value.into_bytes()),
        headers: Vec::new(),
    };
    let long = real.replace("\"pending\"", &format!("\"{SECRET}{}\"", "x".repeat(900_000)));
    let escape = real.replace("\"op\":\"c\"", "\"op\":\"\\u001b]0;owned\\u0007\\n2026-11-22 ERROR forged\"");
    assert!(long != real && escape != real, "{real}");
    let twice = |text: &str| serde_json::to_string(text).unwrap();
    kafka::produce(t.topic(), &[record(twice(&real.replace("pending", SECRET))), record(twice(&long)), record(escape)]);
    t.wait_in_kafka(4);
    for format in ["text", "json"] {
        let mut job = t.job(format);
        job.environment.push(("TRIPLINE__LOG__FORMAT", format.to_owned()));
        let run = job.run();
        assert_eq!(run.count("rejected"), 3, "{run}");
        assert!(!run.log.iter().any(|line| line.contains(SECRET) || line.contains("\"after\"")), "{run}");
        // Records of one kind and epoch share a line.
        let invalid: Vec<&String> = run.log.iter().filter(|line| line.contains("invalid record")).collect();
        assert!((1..=3).contains(&invalid.len()), "{run}");
        for line in &run.log {
            assert!(line.len() < 4_096 && !line.contains(['\u{1b}', '\u{7}']), "{line:?}");
            assert!(!line.starts_with("2026-11-22 ERROR"), "{line:?}");
        }
        let folder = job.checkpoints.join(&job.group);
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("offsets/0"))), (0o700, 0o600));
    }
}
