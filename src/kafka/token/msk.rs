//! Tokens for Amazon MSK with IAM: a request to the cluster, signed in advance, is the token.
//! Sources: <https://github.com/aws/aws-msk-iam-sasl-signer-python>,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// The lifetime of a token in seconds: the one that Amazon's own signers use.
pub(super) const LIFETIME_SECONDS: i64 = 900;

/// The characters of a query that are not encoded, besides letters and digits.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The credentials that sign. They are never printed.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
    /// The session token of temporary credentials.
    pub(super) session: Option<String>,
}

/// The URL that is the token, before it is encoded: `GET /?Action=kafka-cluster:Connect` in the region, signed at `at`.
pub(super) fn signed_url(region: &str, credentials: &Credentials, at: DateTime<Utc>) -> String {
    let host = format!("kafka.{region}.amazonaws.com");
    let (day, instant) = (at.format("%Y%m%d").to_string(), at.format("%Y%m%dT%H%M%SZ").to_string());
    let scope = format!("{day}/{region}/kafka-cluster/aws4_request");
    let lifetime = LIFETIME_SECONDS.to_string();
    let signer = format!("{}/{scope}", credentials.id);
    // In the order of their names.
    let parameters = [
        ("Action", Some("kafka-cluster:Connect")),
        ("X-Amz-Algorithm", Some("AWS4-HMAC-SHA256")),
        ("X-Amz-Credential", Some(&signer)),
        ("X-Amz-Date", Some(&instant)),
        ("X-Amz-Expires", Some(&lifetime)),
        ("X-Amz-Security-Token", credentials.session.as_deref()),
        ("X-Amz-SignedHeaders", Some("host")),
    ];
    let parameters = parameters
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={}", utf8_percent_encode(value, ENCODED))));
    let query = parameters.collect::<Vec<_>>().join("&");
    let request = format!("GET\n/\n{query}\nhost:{host}\n\nhost\n{}", hex(&Sha256::digest(b"")));
    let text = format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let parts = [day.as_str(), region, "kafka-cluster", "aws4_request", &text];
    let secret = format!("AWS4{}", credentials.secret).into_bytes();
    let signature = parts.iter().fold(secret, |key, part| keyed(&key, part));
    format!("https://{host}/?{query}&X-Amz-Signature={}", hex(&signature))
}

/// The region in the name of a broker of MSK, such as `b-1.shop.a1b2c3.c4.kafka.eu-west-1.amazonaws.com:9098`.
pub(super) fn region_of(servers: &str) -> Option<&str> {
    servers.split(',').find_map(|server| {
        let host = server.trim().rsplit_once(':').map_or(server.trim(), |(host, _)| host);
        let (_, region) = host.strip_suffix(".amazonaws.com")?.rsplit_once('.')?;
        Some(region)
    })
}

/// Reads the credentials of a profile from the text of the shared credentials file.
pub(super) fn profile(text: &str, name: &str) -> Option<Credentials> {
    let mut is_mine = false;
    let (mut id, mut secret, mut session) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_mine = section.trim() == name;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_mine && !line.starts_with(['#', ';'])) {
            let value = Some(value.trim().to_owned());
            match key.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => session = value,
                _ => {}
            }
        }
    }
    Some(Credentials { id: id?, secret: secret?, session })
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is one.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text.as_bytes()).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    /// The expected signatures come from botocore 1.42, for the same request.
    #[test]
    fn signed_as_amazons_own_library_signs() {
        let check = |session: Option<&str>, signature: &str| {
            let credentials = Credentials {
                id: "AKIDEXAMPLE".to_owned(),
                secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
                session: session.map(str::to_owned),
            };
            let at = Utc.with_ymd_and_hms(2026, 3, 1, 12, 30, 45).unwrap();
            let url = signed_url("eu-west-1", &credentials, at);
            assert_eq!(url.rsplit_once("X-Amz-Signature=").unwrap().1, signature, "{url}");
            let start = "https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
                         X-Amz-Credential=AKIDEXAMPLE%2F20260301%2Feu-west-1%2Fkafka-cluster%2Faws4_request&";
            assert!(url.starts_with(start), "{url}");
        };
        check(None, "3cc22dfc3a9a1eb81f2a6022af7f6274744eb52393c441ae235ed80e7527cb39");
        check(Some("a/session+token=="), "d87376d856ec82d7594a9f38d5efb8e86d922de30ebd83869eeb3030aa85a0d0");
    }

    #[test]
    fn the_region_of_a_broker() {
        let name = "b-1.shop.a1b2c3.c4.kafka.eu-west-1.amazonaws.com:9098";
        assert_eq!(region_of(&format!("{name},other:9098")), Some("eu-west-1"));
        assert_eq!(region_of("boot-x.c4.kafka-serverless.us-east-2.amazonaws.com:9098"), Some("us-east-2"));
        assert_eq!(region_of("127.0.0.1:9092, kafka:9092"), None);
    }

    #[test]
    fn a_profile_of_the_shared_file() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[ other ]\naws_access_key_id = C\n\
                    aws_secret_access_key = D\naws_session_token = E\n;aws_session_token = F\n[empty]\n";
        let found = |id: &str, secret: &str, session: Option<&str>| {
            Some(Credentials { id: id.to_owned(), secret: secret.to_owned(), session: session.map(str::to_owned) })
        };
        assert_eq!(profile(text, "default"), found("A", "B=", None));
        assert_eq!(profile(text, "other"), found("C", "D", Some("E")));
        assert_eq!((profile(text, "empty"), profile(text, "none"), profile("", "default")), (None, None, None));
    }
}
