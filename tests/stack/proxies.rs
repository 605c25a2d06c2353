//! Between a run and its database: proxies in front of a server that is down, and poolers.
//!
//! A pooler hands on what it knows of a client's startup packet, refuses or drops the rest, and gives each transaction
//! whichever connection to the server is free. The one here says what it was given, and is strict as PgBouncer is as it comes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Job, Stack, Table};

/// Handles a connection of the proxy.
type Handler = dyn Fn(TcpStream) -> std::io::Result<()> + Send + Sync;

/// A listener on the loopback. It ends with the test's process.
fn listen(handler: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handler: Arc<Handler> = Arc::new(handler);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let handler = Arc::clone(&handler);
            // What goes wrong in here shows as what the run makes of it.
            thread::spawn(move || drop(handler(stream)));
        }
    });
    address
}

fn server() -> TcpStream {
    let Stack { host, pg_port, .. } = Stack::get();
    TcpStream::connect(format!("{host}:{pg_port}")).unwrap()
}

/// Copies both ways until either side ends.
fn join(client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (server, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

/// The behaviour of a proxy while its server is down.
#[derive(Clone, Copy, Debug)]
enum Down {
    /// Accepts and closes: docker-proxy, HAProxy.
    Closes,
    /// Reads the request, and then closes.
    ReadsAndCloses,
    /// Resets, like a server that is killed in the middle.
    ClosesInTheMiddle,
    /// The server says that it is starting.
    IsStarting,
}

/// A proxy whose server is down for a while.
fn proxy(down: Down, lasts: Duration) -> SocketAddr {
    let began = Instant::now();
    listen(move |mut client| {
        if began.elapsed() >= lasts {
            return join(client, server());
        }
        let mut some = [0; 8];
        match down {
            Down::Closes => {}
            Down::ReadsAndCloses => client.read_exact(&mut some)?,
            Down::ClosesInTheMiddle => {
                client.read_exact(&mut some)?; // SSLRequest
                client.write_all(b"N")?;
                client.read_exact(&mut some)?;
                client.write_all(b"R\0\0\0")?;
            }
            Down::IsStarting => {
                client.read_exact(&mut some)?;
                client.write_all(b"N")?;
                read_startup(&mut client)?;
                let text = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
                client.write_all(b"E")?;
                client.write_all(&u32::try_from(text.len() + 4).unwrap().to_be_bytes())?;
                client.write_all(text)?;
            }
        }
        Ok(())
    })
}

/// The parameters of a startup packet.
fn read_startup(client: &mut TcpStream) -> std::io::Result<(Vec<u8>, BTreeMap<String, String>)> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    client.read_exact(&mut packet)?;
    let texts: Vec<String> =
        packet[4..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let parameters = texts.chunks(2).filter(|pair| !pair[0].is_empty() && pair.len() == 2);
    let parameters = parameters.map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    Ok(([&length[..], &packet[..]].concat(), parameters))
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_server_behind_a_proxy_is_waited_for() {
    let t = Table::new("proxy");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let url = |at: SocketAddr| format!("postgres://postgres@{at}/{}", t.database.name);
    for down in [Down::Closes, Down::ReadsAndCloses, Down::ClosesInTheMiddle, Down::IsStarting] {
        let job = Job { url: url(proxy(down, Duration::from_millis(1_500))), ..t.job(&format!("{down:?}")) };
        job.run().fired([101]);
        let top = "startup_wait_ms = 500".to_owned();
        let never = Job { url: url(proxy(down, Duration::from_secs(3_600))), top, ..job }.try_run();
        assert_eq!(never.code, Some(3), "{down:?}: {never}");
        assert!(never.log.join("\n").contains("could not be reached"), "{down:?}: {never}");
    }
    // One that asks for TLS and gets no answer.
    let at = proxy(Down::Closes, Duration::from_millis(1_500));
    let required = Job { url: format!("{}?sslmode=require", url(at)), ..t.job("tls") }.try_run();
    assert_eq!(required.code, Some(4), "the stack's server has no TLS: {required}");
    assert!(required.log.join("\n").contains("server does not support TLS"), "{required}");
}

/// The parameters that PgBouncer accepts by default: `track_extra_parameters` and `ignore_startup_parameters` are not
/// set.
const HANDED_ON: [&str; 7] =
    ["user", "database", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"];

/// Statements that a pooler cannot hand on: named ones, and what is outside of a transaction in more than one message.
#[derive(Clone, Default)]
struct Seen {
    startups: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// A pooler that says what it could not have handed on.
fn pooler(seen: &Seen) -> SocketAddr {
    let seen = seen.clone();
    listen(move |mut client| {
        let mut ssl = [0; 8];
        client.read_exact(&mut ssl)?;
        client.write_all(b"N")?;
        let (packet, parameters) = read_startup(&mut client)?;
        seen.startups.fetch_add(1, Ordering::Relaxed);
        for (name, value) in &parameters {
            if !HANDED_ON.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                seen.wrong.lock().unwrap().push(format!("unsupported startup parameter: {name} = {value}"));
            }
        }
        let mut server = server();
        server.write_all(&packet)?;
        let (mut from, back) = (server.try_clone()?, client.try_clone()?);
        let in_transaction = Arc::new(Mutex::new(b'I'));
        let status = Arc::clone(&in_transaction);
        thread::spawn(move || {
            let mut back = back;
            while let Ok((kind, body)) = read_message(&mut from) {
                if kind == b'Z' {
                    *status.lock().unwrap() = body[4];
                }
                if back.write_all(&[&[kind][..], &body[..]].concat()).is_err() {
                    break;
                }
            }
            let _ = back.shutdown(Shutdown::Both);
        });
        while let Ok((kind, body)) = read_message(&mut client) {
            let text = String::from_utf8_lossy(&body[4..]).replace('\0', " ");
            let idle = *in_transaction.lock().unwrap() == b'I';
            let wrong = match kind {
                b'P' if body.get(4) != Some(&0) => Some("a named statement"),
                b'P' | b'B' if idle => Some("a prepared statement outside of a transaction"),
                b'Q' if text.trim_start().to_lowercase().starts_with("set ") && idle => {
                    Some("SET outside of a transaction")
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                seen.wrong.lock().unwrap().push(format!("{wrong}: {text}"));
            }
            server.write_all(&[&[kind][..], &body[..]].concat())?;
        }
        server.shutdown(Shutdown::Both)
    })
}

/// A message's kind, and its length and body.
fn read_message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).unwrap();
    let mut body = head[1..].to_vec();
    body.resize(length, 0);
    stream.read_exact(&mut body[4..])?;
    Ok((head[0], body))
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_pooler_can_hand_everything_on() {
    let t = Table::new("pooler");
    t.sql(&format!("ALTER DATABASE {} SET timezone = 'America/Sao_Paulo'", t.database.name));
    t.insert(&[(1, 101, "3500"), (2, 102, "3600"), (3, 103, "1")]);
    t.wait_in_kafka(3);
    let seen = Seen::default();
    let url = format!("postgres://postgres@{}/{}", pooler(&seen), t.database.name);
    // Migrations are the driver's own, and not made for poolers.
    let direct = vec![("TRIPLINE__ALERTS__POSTGRES__URL", Stack::get().url(&t.database.name))];
    let migrated = Job { environment: direct, ..t.job("v1") }.command(&["migrate"]).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let environment = vec![
        ("TRIPLINE__ALERTS__POSTGRES__URL", url.clone()),
        ("TRIPLINE__ALERTS__POSTGRES__MIGRATE", "false".to_owned()),
        ("TRIPLINE__POSTGRES__SWEEP_INTERVAL_MS", "200".to_owned()),
    ];
    let job = Job { url, environment, ..t.job("v1") };
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_for_line("User 102 ($3,600.00)");
    t.sql("DELETE FROM streaming.transactions WHERE id = 2");
    run.wait_for_line("Resolved: User 102 ($0.00)");
    let ended = run.terminate();
    ended.fired([101, 102]).resolved([102]);
    let id = ended.alert(101)["id"].as_str().unwrap().to_owned();
    for arguments in [&["explain", &id][..], &["alerts"], &["doctor"]] {
        let done = job.command(arguments).output().unwrap();
        assert_ne!(done.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let wrong = seen.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.startups.load(Ordering::Relaxed) >= 3, "nobody came by");
}

/// A statement's limit and read only hold whatever was handed on at connecting.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn limits_hold_without_the_startup_packet() {
    use sqlx::{AssertSqlSafe, Connection};
    use tripline::postgres::{Sees, Session, options};
    let url = Stack::get().url("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect_with(&options(&url).unwrap()).await.unwrap();
        let begin = Session::Reading(Duration::from_millis(100)).begin(Sees::Newest, "Asia/Tokyo");
        for (sql, code) in [("select pg_sleep(5)", "57014"), ("create table public.limits_hold (n int)", "25006")] {
            let mut transaction = connection.begin_with(AssertSqlSafe(begin.clone())).await.unwrap();
            let error = sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap_err();
            assert_eq!(
                error.as_database_error().and_then(|error| error.code()).as_deref(),
                Some(code),
                "{sql}: {error}"
            );
            transaction.rollback().await.unwrap();
        }
    });
}
