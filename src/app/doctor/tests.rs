//! Tests with servers that accept connections and never answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::finding::Grade;
use super::*;

/// The time within which all checks must end. The limits of the configuration below add up to less.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Starts a server that never answers. Returns its port, and the first bytes that each client sends.
fn silent() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = channel();
    std::thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 4_096];
            let length = client.read(&mut bytes).unwrap();
            let _ = said.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
            kept.push(client);
        }
    });
    (port, heard)
}

fn config(postgres: u16, alerts: u16) -> Config {
    let text = format!(
        "startup_wait_ms = 100\n[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\ngroup_id = \"g\"\n[source]\ntopic = \"p.s.t\"\n\
         [postgres]\nurl = \"postgres://127.0.0.1:{postgres}/db?sslmode=disable\"\nstatement_timeout_ms = 100\n\
         [alerts.postgres]\nurl = \"postgres://127.0.0.1:{alerts}/db?sslmode=disable\"\n\
         [[rules]]\nname = \"r\"\nsql = \"SELECT u, SUM(a) AS total FROM s.t WHERE at >= NOW() - INTERVAL '7 days' GROUP BY u HAVING SUM(a) > 3\"\n"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    config::load(file.path(), Vec::new()).unwrap()
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hold_it_for_ever() {
    let ((postgres, rules_session), (alerts, alerts_session)) = (silent(), silent());
    let looked = tokio::time::timeout(ENDS_WITHIN, examine(&config(postgres, alerts), None)).await;
    let report = looked.expect("it ends");
    for check in ["postgres", "alerts.postgres"] {
        let found = report.0.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!((found.grade, found.exit), (Grade::Problem, Exit::Unreachable), "{found:?}");
        assert!(found.text.contains("no answer within"), "{found:?}");
    }
    for session in [rules_session, alerts_session] {
        let settings = session.recv().unwrap();
        // Each transaction is read-only by itself, whatever a pooler does with the session. The start of the session
        // contains no such setting.
        assert!(!settings.contains("default_transaction_read_only"), "{settings}");
    }
}
