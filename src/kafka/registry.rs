//! A schema registry: the text of an Avro schema by its id, over HTTP. Confluent's interface, which others have too
//! (Apicurio's `/apis/ccompat/v7`, Karapace, Redpanda), and Apicurio's own.
//! Sources: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>,
//! <https://www.apicur.io/registry/docs/apicurio-registry/3.0.x/assets-attachments/registry-rest-api.htm>.

use std::time::Duration;

use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::change::avro::SchemaId;
use crate::failure::{CallError, Kind};
use crate::http;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a registry is reached. Never printed: it may hold a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAddress {
    /// Without a login: `https://registry:8081`.
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Certificates in PEM of the authorities that are trusted; `None`: those that are known everywhere.
    pub authorities: Option<Vec<u8>>,
}

/// A schema registry. Calls block.
pub struct Registry {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// What `/schemas/ids/{id}` answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<serde::de::IgnoredAny>,
}

impl Registry {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The authorities are no certificates.
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

    /// The text of a schema; or why this registry will never have one.
    ///
    /// # Errors
    /// It does not answer, or refuses, or is no schema registry.
    pub fn fetch(&self, id: SchemaId) -> Result<Result<String, String>, CallError> {
        let (path, is_wrapped) = path(&self.url, id);
        let url = format!("{}{path}", self.url);
        let call = || format!("schema registry {} (source.schema_registry.url): schema {id}", self.url);
        let request = self.agent.get(&url);
        let request = match &self.authorization {
            Some(login) => request.header("authorization", login),
            None => request,
        };
        let mut answer = request.call().map_err(|error| {
            let kind = match &error {
                ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Kind::Refused,
                ureq::Error::BadUri(_) => Kind::Misconfigured,
                _ => Kind::Unreachable,
            };
            CallError::from_source(call(), error, kind)
        })?;
        let failed = |kind: Kind, problem: String| Err(CallError::new(call(), problem, kind));
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(Err("the registry does not have it".to_owned())),
            status @ (401 | 403) => {
                let advice = "correct source.schema_registry.user and .password";
                return failed(Kind::Refused, format!("it refuses (HTTP status {status}): {advice}"));
            }
            status @ (408 | 429 | 500..) => return failed(Kind::Unreachable, format!("HTTP status {status}")),
            status => return failed(Kind::Misconfigured, format!("HTTP status {status}: is it a schema registry?")),
        }
        let body = answer.body_mut().read_to_string();
        let body = body.map_err(|error| CallError::from_source(call(), error, Kind::Unreachable))?;
        if !is_wrapped {
            return Ok(Ok(body));
        }
        let Ok(found) = serde_json::from_str::<Found>(&body) else {
            return failed(Kind::Misconfigured, "its answer has no schema: is it a schema registry?".to_owned());
        };
        Ok(match found.schema_type.as_deref() {
            Some(other) if other != "AVRO" => Err(format!("it is of the type {other}, not AVRO")),
            _ if !found.references.is_empty() => Err("it refers to other schemas, which cannot be read".to_owned()),
            _ => Ok(found.schema),
        })
    }
}

/// Where a registry has a schema, and whether the answer has it in a field.
fn path(url: &str, id: SchemaId) -> (String, bool) {
    let number = match id {
        SchemaId::Short(id) => u64::from(id),
        SchemaId::Long(id) | SchemaId::Global(id) | SchemaId::Content(id) => id,
    };
    // A converter's apicurio.registry.url ends with one of these.
    let (is_two, is_three) = (url.ends_with("/apis/registry/v2"), url.ends_with("/apis/registry/v3"));
    if !is_two && !is_three {
        return (format!("/schemas/ids/{number}"), true);
    }
    let is_content = matches!(id, SchemaId::Content(_)) || matches!(id, SchemaId::Short(_)) && is_three;
    let kind = if is_content { "contentIds" } else { "globalIds" };
    (format!("/ids/{kind}/{number}"), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_schemas_are() {
        let check = |url: &str, id: SchemaId, want: &str| assert_eq!(path(url, id).0, want, "{url} {id}");
        check("http://r:8081", SchemaId::Short(7), "/schemas/ids/7");
        check("http://r:8080/apis/ccompat/v7", SchemaId::Short(7), "/schemas/ids/7");
        check("http://r:8080/apis/registry/v2", SchemaId::Long(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v2", SchemaId::Short(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v3", SchemaId::Short(7), "/ids/contentIds/7");
        check("http://r:8080/apis/registry/v3", SchemaId::Global(7), "/ids/globalIds/7");
        check("http://r:8080/apis/registry/v2", SchemaId::Content(7), "/ids/contentIds/7");
    }
}
