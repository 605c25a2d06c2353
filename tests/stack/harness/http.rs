//! A server of HTTP for whatever a test has to answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Answers each request by its head and its body with a status line and a body, for as long as the test runs.
pub fn serve(port: u16, answer: impl Fn(&str, &str) -> (&'static str, String) + Send + 'static) {
    serve_over(port, |stream| stream, answer);
}

/// The same over TLS, with this certificate and its key in PEM.
pub fn serve_tls(
    port: u16,
    (certificate, key): &(String, String),
    answer: impl Fn(&str, &str) -> (&'static str, String) + Send + 'static,
) {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let over =
        move |stream| rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
    serve_over(port, over, answer);
}

fn serve_over<S: Read + Write>(
    port: u16,
    over: impl Fn(TcpStream) -> S + Send + 'static,
    answer: impl Fn(&str, &str) -> (&'static str, String) + Send + 'static,
) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = over(stream.unwrap());
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = stream.read_exact(&mut body);
            let (status, text) = answer(&head, &String::from_utf8_lossy(&body));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
            let _ = stream.flush();
        }
    });
}
