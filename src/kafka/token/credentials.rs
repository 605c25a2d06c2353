//! Amazon's credentials: looks for them in the same places and order as Amazon's own libraries. Blocks. Source:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>.

use std::time::Duration;

use serde::Deserialize;

use super::msk::{Credentials, profile};
use crate::http;

/// How long a server of credentials may take. Such a server is either on this machine or absent.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The server for a container whose environment has only a path.
const CONTAINER: &str = "http://169.254.170.2";
/// The server for an instance.
const INSTANCE: &str = "http://169.254.169.254";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The answer of both servers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// Finds the credentials of this process. `environment` returns its variables.
///
/// # Errors
/// There are none. The text names the places that were searched. No error repeats a secret.
pub(super) fn find(environment: impl Fn(&str) -> Option<String>) -> Result<Credentials, String> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some((id, secret)) = set("AWS_ACCESS_KEY_ID").zip(set("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Credentials { id, secret, session: set("AWS_SESSION_TOKEN") });
    }
    let file =
        set("AWS_SHARED_CREDENTIALS_FILE").or_else(|| set("HOME").map(|home| format!("{home}/.aws/credentials")));
    let name = set("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    if let Some(found) = text.and_then(|text| profile(&text, &name)) {
        return Ok(found);
    }
    if let Some(found) = container(&set)? {
        return Ok(found);
    }
    if set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(format!("{NONE}; AWS_EC2_METADATA_DISABLED is set"));
    }
    let instance = set("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
    of_instance(instance.trim_end_matches('/')).map_err(|error| format!("{NONE}: {error}"))
}

const NONE: &str = "no credentials of Amazon's: neither in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor in the profile of \
                    the shared credentials file, nor from a container's or an instance's role";

/// The credentials of a container's role. `None`: the environment names none.
fn container(set: &impl Fn(&str) -> Option<String>) -> Result<Option<Credentials>, String> {
    let relative = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let Some(url) = relative.or_else(|| set("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    let token = match set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => {
            let read = std::fs::read_to_string(&file);
            Some(read.map_err(|error| format!("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE {file}: {error}"))?)
        }
        None => set("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let request = http::client(TIMEOUT).get(&url);
    let request = match &token {
        Some(token) => request.header("authorization", token.trim()),
        None => request,
    };
    let answer = request.call().map_err(|error| format!("credentials of the container's role at {url}: {error}"))?;
    read(answer).map(Some).map_err(|error| format!("credentials of the container's role at {url}: {error}"))
}

/// The credentials of an instance's role, from version 2 of its metadata service.
fn of_instance(server: &str) -> Result<Credentials, String> {
    let failed = |error: ureq::Error| format!("{server}: {error}");
    let client = http::client(TIMEOUT);
    let token = client.put(format!("{server}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = text(token.send_empty().map_err(failed)?)?;
    let get = |path: &str| {
        client.get(format!("{server}{path}")).header("x-aws-ec2-metadata-token", &token).call().map_err(failed)
    };
    let role = text(get(ROLES)?)?;
    let role = role.lines().next().unwrap_or_default().trim();
    read(get(&format!("{ROLES}{role}"))?)
}

fn text(mut answer: ureq::http::Response<ureq::Body>) -> Result<String, String> {
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("HTTP status {status}"));
    }
    answer.body_mut().read_to_string().map_err(|error| error.to_string())
}

fn read(answer: ureq::http::Response<ureq::Body>) -> Result<Credentials, String> {
    let text = text(answer)?;
    let Answer { access_key_id, secret_access_key, token } =
        serde_json::from_str(&text).map_err(|_| "the answer has no AccessKeyId and SecretAccessKey".to_owned())?;
    Ok(Credentials { id: access_key_id, secret: secret_access_key, session: token })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// Starts a server that answers by the request's first line and headers, until the test's process ends.
    fn serve(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n").to_lowercase();
                let (status, body) = answer(&head).map_or(("403 Forbidden", String::new()), |body| ("200 OK", body));
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        format!("http://{address}")
    }

    const ANSWER: &str = r#"{"AccessKeyId":"A","SecretAccessKey":"B","Token":"C","Expiration":"2026-03-01T12:00:00Z"}"#;

    fn found(environment: &[(&str, &str)]) -> Result<(String, String, Option<String>), String> {
        let set =
            |name: &str| environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        find(set).map(|found| (found.id, found.secret, found.session))
    }

    fn want(id: &str, secret: &str, session: Option<&str>) -> Result<(String, String, Option<String>), String> {
        Ok((id.to_owned(), secret.to_owned(), session.map(str::to_owned)))
    }

    #[test]
    fn where_they_are_looked_for() {
        let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B")];
        assert_eq!(found(&keys), want("A", "B", None));
        assert_eq!(found(&[keys[0], keys[1], ("AWS_SESSION_TOKEN", "C")]), want("A", "B", Some("C")));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "[shop]\naws_access_key_id=S\naws_secret_access_key=T\n").unwrap();
        let file = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "shop")];
        assert_eq!(found(&file), want("S", "T", None));
        let error = found(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err();
        assert!(error.starts_with("no credentials of Amazon's"), "{error}");
    }

    #[test]
    fn a_containers_role() {
        let url = serve(|head| {
            (head.starts_with("get /role ") && head.contains("authorization: s")).then(|| ANSWER.to_owned())
        });
        let uri = format!("{url}/role");
        let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str());
        assert_eq!(found(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "s")]), want("A", "B", Some("C")));
        assert!(found(&[full]).unwrap_err().contains("HTTP status 403"));
    }

    #[test]
    fn an_instances_role() {
        let url = serve(|head| {
            let line = head.lines().next()?;
            let has_token = head.contains("x-aws-ec2-metadata-token: t");
            match line.split(' ').nth(1)? {
                "/latest/api/token" => {
                    (line.starts_with("put") && head.contains("ttl-seconds: 60")).then(|| "t".to_owned())
                }
                "/latest/meta-data/iam/security-credentials/" => has_token.then(|| "role\n".to_owned()),
                "/latest/meta-data/iam/security-credentials/role" => has_token.then(|| ANSWER.to_owned()),
                _ => None,
            }
        });
        let server = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
        assert_eq!(found(&[server]), want("A", "B", Some("C")));
    }
}
