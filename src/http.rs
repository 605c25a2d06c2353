//! Requests to servers by HTTP, blocking.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::AlertDescription;
use ureq::tls::TlsConfig;

/// Creates a client without a proxy. An answer with any status is not an error. `timeout` applies to a complete call.
pub fn client(timeout: Duration) -> ureq::Agent {
    client_with(timeout, TlsConfig::default())
}

/// Creates such a client with these TLS settings.
pub fn client_with(timeout: Duration, tls: TlsConfig) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout)).proxy(None);
    config.tls_config(tls).build().into()
}

/// The value of the header `Authorization` for a user and a password, joined by a colon.
pub fn basic(login: impl AsRef<[u8]>) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}

/// Whether the two ends did not agree on TLS: the server's certificate is not trusted, has expired or is of another
/// host, or the server speaks no TLS. To ask again does not help. An alert about an error inside of the server may pass.
/// The client hands some of these on as errors of I/O.
pub fn is_tls_refused(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => {
            error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(|error| match error {
                rustls::Error::AlertReceived(alert) => *alert != AlertDescription::InternalError,
                rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::InvalidMessage(_)
                | rustls::Error::PeerIncompatible(_) => true,
                _ => false,
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn what_does_not_pass_by_itself() {
        let of_io = |error: Error| ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        for (error, refused) in [
            (of_io(expired.clone()), true),
            (ureq::Error::Rustls(expired), true),
            (of_io(Error::AlertReceived(AlertDescription::CertificateRequired)), true),
            (of_io(Error::AlertReceived(AlertDescription::InternalError)), false),
            (of_io(Error::DecryptError), false),
            (ureq::Error::Io(io::ErrorKind::ConnectionReset.into()), false),
            (ureq::Error::HostNotFound, false),
        ] {
            assert_eq!(is_tls_refused(&error), refused, "{error:?}");
        }
    }
}
