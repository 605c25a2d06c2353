//! A schema registry: reads the text of an Avro schema by its id, over HTTP. Supports Confluent's interface, which
//! others have too (Apicurio's `/apis/ccompat/v7`, Karapace, Redpanda), and Apicurio's own. Sources:
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>,
//! <https://www.apicur.io/registry/docs/apicurio-registry/3.0.x/assets-attachments/registry-rest-api.htm>.

use std::time::Duration;

use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::change::avro::SchemaId;
use crate::failure::{CallError, Kind};
use crate::http;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The greatest size of an answer in bytes: the text of a schema as a JSON text, with escaped quotes, and the fields
/// around it.
const ANSWER_MAX: u64 = 10 << 20;

/// The address and login of a registry. Never printed: it may hold a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAddress {
    /// The URL without a login: `https://registry:8081`.
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Certificates in PEM of the trusted authorities. `None`: the well-known authorities.
    pub authorities: Option<Vec<u8>>,
}

/// A schema registry. Calls block.
pub struct Registry {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// The answer of `/schemas/ids/{id}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<serde::de::IgnoredAny>,
}

impl Registry {
    /// Creates a client without connecting.
    ///
    /// # Errors
    /// The authorities are not certificates.
    pub fn new(address: &RegistryAddress) -> Result<Self, CallError> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &address.authorities {
            let certificates: Result<Vec<Certificate<'static>>, ureq::Error> = parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
                .collect();
            let certificates = certificates.unwrap_or_default();
            if certificates.is_empty() {
                let problem = "holds no certificate in PEM";
                return Err(CallError::new("source.schema_registry.ca", problem, Kind::Misconfigured));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        let authorization = address.login.as_ref().map(|(user, password)| http::basic(format!("{user}:{password}")));
        let agent = http::client_with(TIMEOUT, tls.build());
        Ok(Self { url: address.url.trim_end_matches('/').to_owned(), authorization, agent })
    }

    /// Reads the text of a schema. The inner error says why this registry will never have one.
    ///
    /// # Errors
    /// The registry does not answer, or refuses, or is not a schema registry.
    pub fn fetch(&self, id: SchemaId) -> Result<Result<String, String>, CallError> {
        let Some((path, is_wrapped)) = path(&self.url, id) else {
            let why = "Confluent's interface does not know Apicurio's global ids: set source.schema_registry.url to the address \
                       that ends with /apis/registry/v2 or v3";
            return Ok(Err(why.to_owned()));
        };
        let url = format!("{}{path}", self.url);
        let call = || format!("schema registry {} (source.schema_registry.url): schema {id}", self.url);
        let request = self.agent.get(&url);
        let request = match &self.authorization {
            Some(login) => request.header("authorization", login),
            None => request,
        };
        let mut answer = request.call().map_err(|error| {
            let kind = match &error {
                error if http::is_tls_refused(error) => Kind::Refused,
                ureq::Error::BadUri(_) => Kind::Misconfigured,
                _ => Kind::Unreachable,
            };
            CallError::from_source(call(), error, kind)
        })?;
        let body = match answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec() {
            Ok(body) => Some(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => None,
            Err(error) => return Err(CallError::from_source(call(), error, Kind::Unreachable)),
        };
        let read = schema_of(answer.status().as_u16(), body.as_deref(), is_wrapped);
        read.map_err(|(kind, problem)| CallError::new(call(), problem, kind))
    }
}

/// Extracts the schema's text from an answer. The inner error says why there will never be one. `body` is `None` if the
/// answer is too long to be read.
fn schema_of(status: u16, body: Option<&[u8]>, is_wrapped: bool) -> Result<Result<String, String>, (Kind, String)> {
    match status {
        200 => {}
        404 => return Ok(Err("the registry does not have it".to_owned())),
        401 | 403 => {
            let advice = "correct source.schema_registry.user and .password";
            return Err((Kind::Refused, format!("it refuses (HTTP status {status}): {advice}")));
        }
        408 | 429 | 500.. => return Err((Kind::Unreachable, format!("HTTP status {status}"))),
        _ => return Err((Kind::Misconfigured, format!("HTTP status {status}: is it a schema registry?"))),
    }
    let Some(body) = body else {
        return Ok(Err(format!(
            "the registry's answer has more than {ANSWER_MAX} bytes, which no schema of a table needs"
        )));
    };
    if !is_wrapped {
        return Ok(String::from_utf8(body.to_vec()).map_err(|_| "the registry's answer is not UTF-8".to_owned()));
    }
    let Ok(found) = serde_json::from_slice::<Found>(body) else {
        return Err((Kind::Misconfigured, "its answer has no schema: is it a schema registry?".to_owned()));
    };
    Ok(match found.schema_type.as_deref() {
        Some("PROTOBUF" | "JSON") => {
            Err("it is a schema of Protobuf or JSON; source.format can be Avro or plain JSON".to_owned())
        }
        Some(other) if other != "AVRO" => Err("it is of another type than AVRO".to_owned()),
        _ if !found.references.is_empty() => Err("it refers to other schemas, which cannot be read".to_owned()),
        _ => Ok(found.schema),
    })
}

/// The path of a schema in a registry, and whether the answer holds the schema in a field. `None`: there the id would
/// name another schema.
fn path(url: &str, id: SchemaId) -> Option<(String, bool)> {
    let number = match id {
        SchemaId::Short(id) => u64::from(id),
        SchemaId::Long(id) | SchemaId::Global(id) | SchemaId::Content(id) => id,
    };
    // A converter's apicurio.registry.url ends with one of these.
    let (is_two, is_three) = (url.ends_with("/apis/registry/v2"), url.ends_with("/apis/registry/v3"));
    if !is_two && !is_three {
        let is_global = matches!(id, SchemaId::Global(_));
        return (!is_global).then(|| (format!("/schemas/ids/{number}"), true));
    }
    let is_content = matches!(id, SchemaId::Content(_)) || matches!(id, SchemaId::Short(_)) && is_three;
    let kind = if is_content { "contentIds" } else { "globalIds" };
    Some((format!("/ids/{kind}/{number}"), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says() {
        let check = |status: u16, body: Option<&[u8]>, is_wrapped: bool, want: &str| {
            let got = match schema_of(status, body, is_wrapped) {
                Ok(Ok(text)) => format!("schema {text}"),
                Ok(Err(why)) => format!("none: {why}"),
                Err((kind, problem)) => format!("{kind:?}: {problem}"),
            };
            assert!(got.starts_with(want), "{status}: {got}, expected {want}");
        };
        let no_schema = "Misconfigured: its answer has no schema";
        check(200, Some(br#"{"schema":"\"long\""}"#), true, "schema \"long\"");
        check(200, Some(br#"{"schema":"x","schemaType":"AVRO","references":[]}"#), true, "schema x");
        check(200, Some(b"\"long\""), false, "schema \"long\"");
        check(200, Some(b""), true, no_schema);
        check(200, Some(b"<html>"), true, no_schema);
        check(200, Some(b"[]"), true, no_schema);
        check(200, Some(b"null"), true, no_schema);
        check(200, Some(b"{\"schema\":\"\xff\"}"), true, no_schema);
        check(200, Some(br#"{"schema":7}"#), true, no_schema);
        check(200, Some(br#"{"schema":{"type":"long"}}"#), true, no_schema);
        check(200, Some(br#"{"schema":"a","schema":"b"}"#), true, no_schema);
        check(200, Some(br#"{"schema":"a"} {"#), true, no_schema);
        check(200, Some("[".repeat(100_000).as_bytes()), true, no_schema);
        check(200, Some(b"\xff"), false, "none: the registry's answer is not UTF-8");
        check(200, None, true, "none: the registry's answer has more than 10485760 bytes");
        check(200, None, false, "none: the registry's answer has more than");
        check(
            200,
            Some(br#"{"schema":"x","schemaType":"PROTOBUF"}"#),
            true,
            "none: it is a schema of Protobuf or JSON",
        );
        check(200, Some(br#"{"schema":"x","schemaType":"4111"}"#), true, "none: it is of another type than AVRO");
        check(200, Some(br#"{"schema":"x","references":[{}]}"#), true, "none: it refers to other schemas");
        check(404, Some(b"<html>"), true, "none: the registry does not have it");
        check(401, None, true, "Refused: it refuses (HTTP status 401): correct source.schema_registry.user");
        check(403, None, true, "Refused");
        check(503, None, true, "Unreachable: HTTP status 503");
        check(429, None, true, "Unreachable");
        check(301, None, true, "Misconfigured: HTTP status 301: is it a schema registry?");
        check(204, None, true, "Misconfigured");
    }

    #[test]
    fn where_schemas_are() {
        let check = |url: &str, id: SchemaId, want: &str| {
            assert_eq!(path(url, id).map_or(String::new(), |(path, _)| path), want, "{url} {id}");
        };
        check("http://r:8081", SchemaId::Short(7), "/schemas/ids/7");
        check("http://r:8080/apis/ccompat/v7", SchemaId::Short(7), "/schemas/ids/7");
        check("http://r:8080/apis/ccompat/v7", SchemaId::Content(7), "/schemas/ids/7");
        check("http://r:8080/apis/ccompat/v7", SchemaId::Global(7), "");
        check("http://r:8080/apis/registry/v2", SchemaId::Long(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v2", SchemaId::Short(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v3", SchemaId::Short(7), "/ids/contentIds/7");
        check("http://r:8080/apis/registry/v3", SchemaId::Global(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v2", SchemaId::Content(7), "/ids/contentIds/7");
    }

    /// Fetches from a registry that gives this answer to one request.
    fn answered(answer: Vec<u8>) -> Result<Result<String, String>, CallError> {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1_024];
                let _ = stream.read(&mut asked);
                // The client may hang up before the end.
                let _ = stream.write_all(&answer);
            });
            Registry::new(&RegistryAddress { url, ..RegistryAddress::default() }).unwrap().fetch(SchemaId::Short(7))
        })
    }

    #[test]
    fn answers_over_the_wire() {
        let with = |body: &[u8]| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            answered([head.as_bytes(), body].concat())
        };
        assert_eq!(with(br#"{"schema":"x"}"#).unwrap(), Ok("x".to_owned()));
        let long = format!(r#"{{"schema":"{}"}}"#, "x".repeat(11 << 20));
        let why = with(long.as_bytes()).unwrap().unwrap_err();
        assert!(why.starts_with("the registry's answer has more than 10485760 bytes"), "{why}");
        let error = with(b"\xff\xfe").unwrap_err();
        assert_eq!(error.kind, Kind::Misconfigured, "{error}");
        let error = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()).unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable, "{error}");
        let error = answered(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).unwrap_err();
        assert!(!error.to_string().contains("OpenSSH"), "{error}");
    }
}
