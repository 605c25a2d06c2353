use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rdkafka::producer::FutureProducer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConnection};

use super::*;
use crate::failure::HasKind;
use crate::kafka::{Cluster, Isolation};

#[test]
fn a_property_is_named_and_its_value_is_not() {
    let check = |name: &str, value: &str, want: &str| {
        let mut settings = ClientConfig::new();
        settings.set(name, value);
        let made: Result<FutureProducer, KafkaError> = settings.create();
        let error = made.err().unwrap();
        let by_property = bad_property(&error, &settings);
        let by_call = failed("Kafka: fencing", error);
        for error in [&by_property, &by_call] {
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(want) && !shown.contains("hunter2"), "{shown}");
            assert_eq!(error.kind, Kind::Misconfigured);
        }
    };
    let underscore = "sasl_password is not a setting of librdkafka, or this build does not have it; in the name of a variable, _ stands for a dot";
    check("sasl_password", "hunter2", underscore);
    check("sasl.passwort", "hunter2", "sasl.passwort is not a setting of librdkafka");
    check("ssl.keystore.passwort", "hunter2", "ssl.keystore.passwort is not a setting");
    check("socket.timeout.ms", "hunter2", "the value of socket.timeout.ms is not valid");
    check("security.protocol", "hunter2", "the value of security.protocol is not valid");
}

#[test]
fn a_refused_login_is_told_apart() {
    use RDKafkaErrorCode as Code;
    use RefusedLogin::{Certificate, Password, Token};
    let check = |code: Code, reason: &str, want: [Option<RefusedLogin>; 2]| {
        let error = KafkaError::Global(code);
        assert_eq!([false, true].map(|has_token| refused_login(&error, reason, has_token)), want, "{code:?} {reason}");
    };
    check(Code::SSL, "", [Some(Certificate); 2]);
    check(Code::Authentication, "", [Some(Password), Some(Token)]);
    check(Code::SaslAuthenticationFailed, "", [Some(Password), Some(Token)]);
    check(Code::AllBrokersDown, "1/1 brokers are down", [None; 2]);
    let alert = |number: &str| format!("x: Disconnected: error:0A000412:SSL routines::x:SSL alert number {number}: y");
    for (number, want) in
        [("42", Some(Certificate)), ("116", Some(Certificate)), ("40", None), ("", None), ("4200", None), ("x", None)]
    {
        check(Code::BrokerTransportFailure, &alert(number), [want; 2]);
    }
}

/// Accepts one connection after the other, asks each for a certificate, and closes it after the handshake. Returns the
/// address.
fn tls(key: &KeyPair, certificate: &CertificateDer<'static>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
            while server.is_handshaking() && server.complete_io(&mut stream).is_ok() {}
            let _ = server.complete_io(&mut stream); // the alert
        }
    });
    address
}

/// The client's messages with a known meaning, verbatim.
#[cfg(feature = "kafka-tls")]
#[test]
fn a_certificate_that_is_missing_or_not_trusted_is_told_by_the_clients_words() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, certificate.pem()).unwrap();
    let address = tls(&key, certificate.der());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = |properties: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties: BTreeMap<String, String> = properties.iter().map(own).collect();
        let client = Cluster::new(&address, &properties, "g").client("g", Isolation::Committed).unwrap();
        let error = runtime.block_on(client.overview()).unwrap_err();
        assert_eq!((error.kind, error.refused_login()), (Kind::Refused, Some(RefusedLogin::Certificate)), "{error}");
        error.problem
    };
    let said = refused(&[("security.protocol", "SSL")]);
    assert!(is_unverified(&said), "{said}");
    let said = refused(&[("security.protocol", "SSL"), ("ssl.ca.location", trusted.to_str().unwrap())]);
    assert!(alert(&said).is_some() && !is_unverified(&said), "{said}");
    runtime.shutdown_background(); // the calls of these clients run into their time-outs
}
