//! Tokens for SASL/OAUTHBEARER: fetched from an identity provider by the client's id and secret, as librdkafka does where it
//! is built with libcurl, and by the same settings.
//! Sources: <https://datatracker.ietf.org/doc/html/rfc6749#section-4.4>, <https://datatracker.ietf.org/doc/html/rfc7519>.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::http;

/// How long an answer may take: the broker waits for the login meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where a token does not say when it expires.
const LIFETIME_SECONDS: i64 = 300;

/// The property that a client is handed back when it needs a token.
const CONFIG: &str = "sasl.oauthbearer.config";
const METHOD: &str = "sasl.oauthbearer.method";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

/// Where tokens come from.
#[derive(Deserialize, Serialize)]
struct Provider {
    endpoint: String,
    id: String,
    secret: String,
    scope: Option<String>,
}

/// What a provider answers.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<i64>,
}

/// What a token says of itself, as far as it is looked at.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<i64>,
}

/// The properties, with what `sasl.oauthbearer.method = oidc` needs in the one that [`fetch`] is given.
pub(super) fn prepared(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut prepared = properties.clone();
    if prepared.get(METHOD).is_none_or(|method| method != "oidc") {
        return prepared;
    }
    prepared.remove(METHOD);
    let mut take = |names: &[&str]| names.iter().find_map(|name| prepared.remove(*name));
    let provider = Provider {
        endpoint: take(&[ENDPOINT]).unwrap_or_default(),
        id: take(&["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"]).unwrap_or_default(),
        secret: take(&["sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"])
            .unwrap_or_default(),
        scope: take(&["sasl.oauthbearer.scope"]),
    };
    if let Ok(config) = serde_json::to_string(&provider) {
        prepared.insert(CONFIG.to_owned(), config);
    }
    prepared
}

/// A token from the provider of a configuration. Blocks.
///
/// # Errors
/// There is no provider, or it gives none. No error repeats the secret.
pub(crate) fn fetch(config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let provider = config.and_then(|config| serde_json::from_str::<Provider>(config).ok());
    let provider =
        provider.filter(|found| [&found.endpoint, &found.id, &found.secret].iter().all(|text| !text.is_empty()));
    let Some(Provider { endpoint, id, secret, scope }) = provider else {
        return Err(format!(
            "OAUTHBEARER needs {METHOD} = \"oidc\", {ENDPOINT}, sasl.oauthbearer.client.id and .client.secret"
        )
        .into());
    };
    let scope = scope.map(|scope| ("scope", scope));
    let form = [("grant_type", "client_credentials".to_owned())].into_iter().chain(scope);
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let login = http::basic(format!("{}:{}", encoded(&id), encoded(&secret)));
    let request = http::client(TIMEOUT).post(&endpoint).header("authorization", login);
    let mut answer = request.send_form(form).map_err(|error| format!("{endpoint} ({ENDPOINT}): {error}"))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("{endpoint} ({ENDPOINT}) gives no token: HTTP status {status}").into());
    }
    let answer: Answer = answer.body_mut().read_json().map_err(|error| format!("{endpoint} ({ENDPOINT}): {error}"))?;
    let Claims { sub, exp } = claims(&answer.access_token);
    let now = SystemClock::default().now().0 / 1_000_000;
    let expires = exp.unwrap_or_else(|| now.saturating_add(answer.expires_in.unwrap_or(LIFETIME_SECONDS)));
    Ok(OAuthToken {
        token: answer.access_token,
        principal_name: sub.unwrap_or(id),
        lifetime_ms: expires.saturating_mul(1_000),
    })
}

/// What a JSON Web Token says; nothing of a token of another kind. It is the broker that checks it.
fn claims(token: &str) -> Claims {
    let middle = token.split('.').nth(1).and_then(|middle| URL_SAFE_NO_PAD.decode(middle).ok());
    middle.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_oidc_become_one() {
        let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let plain = own(&[("sasl.mechanisms", "PLAIN"), ("sasl.oauthbearer.config", "principal=x")]);
        assert_eq!(prepared(&plain), plain);
        let oidc = own(&[
            ("sasl.mechanisms", "OAUTHBEARER"),
            (METHOD, "oidc"),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("sasl.oauthbearer.scope", "kafka"),
            (ENDPOINT, "https://id.example/token"),
        ]);
        let config = r#"{"endpoint":"https://id.example/token","id":"me","secret":"hunter2","scope":"kafka"}"#;
        assert_eq!(prepared(&oidc), own(&[("sasl.mechanisms", "OAUTHBEARER"), (CONFIG, config)]));
        let incomplete = prepared(&own(&[(METHOD, "oidc"), (ENDPOINT, "https://id.example/token")]));
        for config in ["principal=x", &incomplete[CONFIG]] {
            let error = fetch(Some(config)).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("OAUTHBEARER needs") && error.contains(ENDPOINT), "{error}");
        }
    }

    #[test]
    fn what_a_token_says() {
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(r#"{"sub":"tripline","exp":7,"more":[1]}"#));
        let Claims { sub, exp } = claims(&token);
        assert_eq!((sub.as_deref(), exp), (Some("tripline"), Some(7)));
        for other in ["", "opaque", "a.b.c", "a.!.c"] {
            assert!(claims(other).sub.is_none(), "{other}");
        }
    }
}
