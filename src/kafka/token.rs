//! Tokens for SASL/OAUTHBEARER. They are fetched from an identity provider by the client's id and secret, with the
//! settings of a librdkafka that is built with libcurl. Or they are signed for Amazon MSK.
//!
//! - `credentials`: Amazon's credentials
//! - `msk`: the signature
//!
//! Sources: <https://datatracker.ietf.org/doc/html/rfc6749#section-4.4>,
//! <https://datatracker.ietf.org/doc/html/rfc7519>.

mod credentials;
mod msk;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use rdkafka::client::OAuthToken;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::http;

/// How long an answer may take. The broker waits for the login meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The lifetime of a token that has no expiry time.
const LIFETIME_SECONDS: i64 = 300;

/// The property whose value librdkafka passes back when a client needs a token.
const CONFIG: &str = "sasl.oauthbearer.config";
const METHOD: &str = "sasl.oauthbearer.method";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
/// The method for Amazon MSK. Neither it nor the setting of its region is librdkafka's.
const MSK: &str = "aws-msk-iam";
const REGION: &str = "sasl.oauthbearer.aws.region";

/// The source of tokens.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Issuer {
    Oidc(Provider),
    Msk(Option<String>),
}

/// An identity provider.
#[derive(Deserialize, Serialize)]
struct Provider {
    endpoint: String,
    id: String,
    secret: String,
    scope: Option<String>,
}

/// The answer of an identity provider.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<i64>,
}

/// The claims of a token that are used.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<i64>,
}

/// Prepares the properties of a client. If `sasl.oauthbearer.method` is `oidc` or `aws-msk-iam`, the property that
/// [`fetch`] receives gets the method's settings. The names in `servers` may have the brokers' region.
pub(super) fn prepared(properties: &BTreeMap<String, String>, servers: &str) -> BTreeMap<String, String> {
    let mut prepared = properties.clone();
    let mut take = |names: &[&str]| names.iter().find_map(|name| prepared.remove(*name));
    let issuer = match properties.get(METHOD).map(String::as_str) {
        Some("oidc") => Issuer::Oidc(Provider {
            endpoint: take(&[ENDPOINT]).unwrap_or_default(),
            id: take(&["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"])
                .unwrap_or_default(),
            secret: take(&["sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"])
                .unwrap_or_default(),
            scope: take(&["sasl.oauthbearer.scope"]),
        }),
        Some(MSK) => Issuer::Msk(take(&[REGION]).or_else(|| msk::region_of(servers).map(str::to_owned))),
        _ => return prepared,
    };
    take(&[METHOD]);
    if let Ok(config) = serde_json::to_string(&issuer) {
        prepared.insert(CONFIG.to_owned(), config);
    }
    prepared
}

/// Fetches a token from the issuer of a configuration. Blocks.
///
/// # Errors
/// There is no issuer, or it issues no token. No error repeats the secret.
pub(crate) fn fetch(config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    match config.and_then(|config| serde_json::from_str(config).ok()) {
        Some(Issuer::Msk(region)) => sign(region).map_err(Into::into),
        Some(Issuer::Oidc(provider)) => ask(Some(provider)),
        None => ask(None),
    }
}

/// Signs a token for Amazon MSK with the credentials of this process.
fn sign(region: Option<String>) -> Result<OAuthToken, String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let region = region.or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    let region = region.ok_or_else(|| format!("{METHOD} = \"{MSK}\" needs {REGION}, or AWS_REGION"))?;
    let credentials = credentials::find(set)?;
    let now = SystemClock::default().now().0;
    let at = DateTime::from_timestamp_micros(now).ok_or("the time of day is none")?;
    let url = msk::signed_url(&region, &credentials, at);
    let agent = concat!("tripline%2F", env!("CARGO_PKG_VERSION"));
    Ok(OAuthToken {
        token: URL_SAFE_NO_PAD.encode(format!("{url}&User-Agent={agent}")),
        principal_name: credentials.id,
        lifetime_ms: (now / 1_000).saturating_add(msk::LIFETIME_SECONDS * 1_000),
    })
}

/// Fetches a token from an identity provider.
fn ask(provider: Option<Provider>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let provider =
        provider.filter(|found| [&found.endpoint, &found.id, &found.secret].iter().all(|text| !text.is_empty()));
    let Some(Provider { endpoint, id, secret, scope }) = provider else {
        return Err(format!(
            "OAUTHBEARER needs {METHOD} = \"oidc\", {ENDPOINT}, sasl.oauthbearer.client.id and .client.secret; or {METHOD} = \"{MSK}\""
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

/// Reads the claims of a JSON Web Token. A token of another kind has none. The broker checks the token.
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
        assert_eq!(prepared(&plain, "kafka:9092"), plain);
        let oidc = own(&[
            ("sasl.mechanisms", "OAUTHBEARER"),
            (METHOD, "oidc"),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("sasl.oauthbearer.scope", "kafka"),
            (ENDPOINT, "https://id.example/token"),
        ]);
        let config = r#"{"oidc":{"endpoint":"https://id.example/token","id":"me","secret":"hunter2","scope":"kafka"}}"#;
        assert_eq!(prepared(&oidc, "kafka:9092"), own(&[("sasl.mechanisms", "OAUTHBEARER"), (CONFIG, config)]));
        let incomplete = prepared(&own(&[(METHOD, "oidc"), (ENDPOINT, "https://id.example/token")]), "kafka:9092");
        let msk = own(&[(METHOD, MSK), ("sasl.mechanisms", "OAUTHBEARER")]);
        let of_server = prepared(&msk, "b-1.shop.a1.c4.kafka.eu-west-1.amazonaws.com:9098");
        assert_eq!(of_server, own(&[("sasl.mechanisms", "OAUTHBEARER"), (CONFIG, r#"{"msk":"eu-west-1"}"#)]));
        let named = own(&[(METHOD, MSK), (REGION, "us-east-1"), ("sasl.mechanisms", "OAUTHBEARER")]);
        assert_eq!(prepared(&named, "kafka:9092")[CONFIG], r#"{"msk":"us-east-1"}"#);
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
