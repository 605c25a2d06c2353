//! Asking Kafka Connect's REST interface, on a blocking thread.

use std::time::Duration;

use serde_json::Value as Json;

use super::checks::connect::connectors;
use super::facts::Connector;
use crate::config::without_login;
use crate::failure::{Exit, Failure};
use crate::http;

/// The timeout. A worker is slow while it is busy with another connector.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Returns all connectors with their settings and states. `url` may hold a login.
pub(super) async fn ask(url: &str) -> Result<Vec<Connector>, Failure> {
    let (plain, login) = (without_login(url), login(url));
    let asked = tokio::task::spawn_blocking(move || {
        let answer = get(&format!("{plain}/connectors?expand=info&expand=status"), login.as_deref())?;
        // If this request fails, the versions are unknown.
        let plugins = get(&format!("{plain}/connector-plugins"), login.as_deref()).unwrap_or_default();
        Ok((answer, plugins))
    });
    let failed = |error: tokio::task::JoinError| Err(Failure::new(Exit::Failed, error.to_string()));
    let (answer, plugins) = asked.await.unwrap_or_else(failed)?;
    connectors(&answer, &plugins)
        .ok_or_else(|| Failure::misconfigured("what answers is not Kafka Connect's REST interface"))
}

/// Returns the header `Authorization` for the user and password of a URL, if it has them.
fn login(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Some(http::basic([decoded(user), decoded(password)].join(&b':')))
}

/// Returns the bytes of percent-encoded text. A `%` without two hex digits after it stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let encoded = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match encoded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Sends a GET request. `login` is the header `Authorization`. The address never contains the login, because errors and
/// redirections may show the address.
fn get(url: &str, login: Option<&str>) -> Result<Json, Failure> {
    let unanswered = |exit: Exit, message: String| Failure::new(exit, message);
    let request = http::client(TIMEOUT).get(url);
    let request = match login {
        Some(login) => request.header("authorization", login),
        None => request,
    };
    let mut answer = request.call().map_err(|error| unanswered(Exit::Unreachable, error.to_string()))?;
    match answer.status().as_u16() {
        200 => answer.body_mut().read_json().map_err(|error| unanswered(Exit::Misconfigured, error.to_string())),
        status @ (401 | 403) => Err(unanswered(Exit::Refused, format!("it refuses (HTTP status {status})"))),
        status @ (409 | 500..) => {
            Err(unanswered(Exit::Unreachable, format!("it is busy or broken (HTTP status {status})")))
        }
        status => Err(unanswered(Exit::Misconfigured, format!("HTTP status {status}: is it Kafka Connect?"))),
    }
}

#[cfg(test)]
mod tests {
    use super::login;

    #[test]
    fn the_login_of_a_url() {
        let check = |url: &str, want: Option<&str>| assert_eq!(login(url).as_deref(), want, "{url}");
        check("http://host:8083", None);
        check("http://bob:hunter2@host:8083", Some("Basic Ym9iOmh1bnRlcjI="));
        check("https://bob@host", Some("Basic Ym9iOg=="));
        // a:b%c@d
        check("http://a:b%25c%40d@host", Some("Basic YTpiJWNAZA=="));
        check("http://a:b%c@d@host/connect", Some("Basic YTpiJWNAZA=="));
    }
}
