//! A plain session, whose client names no time zone. The one of psql is like that.
//!
//! The driver of all other statements (sqlx) always sets UTC when it connects. That hides the setting of the server,
//! the database or the role, and RESET does not restore it. So another client asks this one question.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Config, SimpleQueryMessage};

/// Why a plain session did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlainError {
    /// The server or the connection failed.
    #[error("{}", cause(.0))]
    Server(#[from] tokio_postgres::Error),
    /// A certificate or key in the URL is not valid.
    #[error("{0}")]
    Tls(String),
    /// The answer has no zone.
    #[error("the server did not answer SHOW TimeZone")]
    Silent,
}

/// The cause of an error, because the driver's text does not have it.
fn cause(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Reads the time zone of a session that names none.
pub(super) async fn time_zone(options: &PgConnectOptions) -> Result<String, PlainError> {
    let tls = Tls::of(options).map_err(PlainError::Tls)?;
    let (client, connection) = config(options).connect(tls).await?;
    let asked = async {
        let answer = client.simple_query("SHOW TimeZone").await;
        drop(client); // which ends the connection
        answer
    };
    let (answer, _) = tokio::join!(asked, connection);
    let row = answer?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.ok_or(PlainError::Silent)
}

/// The configuration for the same server, database, role and password.
fn config(options: &PgConnectOptions) -> Config {
    let url = options.to_url_lossy();
    let mut config = Config::new();
    match options.get_socket() {
        Some(socket) => config.host_path(socket),
        None => config.host(options.get_host().trim_start_matches('[').trim_end_matches(']')),
    };
    config.port(options.get_port()).user(options.get_username()).application_name("tripline");
    config.dbname(options.get_database().unwrap_or(options.get_username()));
    if let Some(password) = url.password() {
        config.password(percent_decoded(password));
    }
    config.ssl_mode(match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => SslMode::Disable,
        PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
    });
    config
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// TLS by the parameters of the URL, read like the other driver does.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

impl Tls {
    fn of(options: &PgConnectOptions) -> Result<Self, String> {
        let url = options.to_url_lossy();
        let file = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |error: TlsError| error.to_string();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
        let verifier: Arc<dyn ServerCertVerifier> = match options.get_ssl_mode() {
            mode @ (PgSslMode::VerifyCa | PgSslMode::VerifyFull) => {
                let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
                if let Some(file) = file("sslrootcert") {
                    for certificate in certificates(&file)? {
                        roots.add(certificate).map_err(wrong)?;
                    }
                }
                let full = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let full = full.build().map_err(|error| error.to_string())?;
                if matches!(mode, PgSslMode::VerifyFull) {
                    full
                } else {
                    Arc::new(Verifier { full: Some(full), provider })
                }
            }
            _ => Arc::new(Verifier { full: None, provider }),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match file("sslcert").zip(file("sslkey")) {
            Some((certificate, key)) => {
                let key_of = PrivateKeyDer::from_pem_file(&key).map_err(|error| format!("{key}: {error}"))?;
                builder.with_client_auth_cert(certificates(&certificate)?, key_of).map_err(wrong)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    found.map_err(|error| format!("{file}: {error}"))
}

/// The certificate check for an `sslmode` below `verify-full`: any certificate, or one of a known authority with any
/// host name.
#[derive(Debug)]
struct Verifier {
    full: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(full) = &self.full else { return Ok(ServerCertVerified::assertion()) };
        match full.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, io::Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Handshake { config: Arc::clone(&self.0), name })
    }
}

/// A handshake to perform.
struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            Ok(Encrypted(connector.connect(self.name, stream).await?))
        })
    }
}

/// An encrypted stream without channel binding: SCRAM works without it, as in the other driver.
struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_come_as_they_are() {
        let check = |text: &str, want: &[u8]| assert_eq!(percent_decoded(text), want, "{text}");
        check("hunter2", b"hunter2");
        check("a%40b%25%3a", b"a@b%:");
        check("100%", b"100%");
        check("%zz%4", b"%zz%4");
    }
}
