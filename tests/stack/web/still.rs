//! Clients that hold connections: the others are answered all the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::Table;

use super::{get, with_page};

/// More than are served at once, of each kind.
const HELD: usize = 80;

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_answers_while_connections_are_held() {
    let t = Table::new("web_still");
    t.insert(&[(1, 101, "3500")]);
    let (job, url) = with_page(t.job("v1"));
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_committed(1);
    let address = url.strip_prefix("http://").unwrap();
    let hold = |requests: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        stream
    };
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let kinds = [
        ("nothing is sent", String::new()),
        ("half a request", "GET /livez HTT".to_owned()),
        ("no answer is read", request("/app.js").repeat(40)),
        ("events are not read", request("/api/events")),
        ("it was answered, and stays", request("/livez")),
    ];
    let mut held = Vec::new();
    for (what, requests) in &kinds {
        held.extend((0..HELD).map(|_| hold(requests)));
        for path in ["/livez", "/readyz", "/metrics", "/"] {
            let began = Instant::now();
            let (status, said) = get(&format!("{url}{path}"));
            assert_eq!(status, 200, "{what}: {path}: {said}");
            assert!(began.elapsed() < Duration::from_secs(3), "{what}: {path} took {:?}", began.elapsed());
        }
        let healthy = job.command(&["healthcheck"]).output().unwrap();
        assert_eq!(healthy.status.code(), Some(0), "{what}: {healthy:?}");
    }
    // One that sends half a request is closed after ten seconds, whether there is room or not.
    held.clear();
    let mut half = hold("GET /livez HTT");
    half.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).unwrap();
    assert_eq!(run.terminate().code, Some(0));
}
