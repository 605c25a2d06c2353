//! Asking servers by HTTP, blocking.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ureq::tls::TlsConfig;

/// A client that uses no proxy; an answer of any status is an answer. `timeout` is that of a whole call.
pub fn client(timeout: Duration) -> ureq::Agent {
    client_with(timeout, TlsConfig::default())
}

/// The same with these settings of TLS.
pub fn client_with(timeout: Duration, tls: TlsConfig) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout)).proxy(None);
    config.tls_config(tls).build().into()
}

/// The value of the header `Authorization` for a user and a password, joined by a colon.
pub fn basic(login: impl AsRef<[u8]>) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}
