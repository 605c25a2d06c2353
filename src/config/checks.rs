//! Checks of names, addresses and URLs. Each check returns what is wrong and what to do.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// The parameters that the driver reads from a URL, and whether their values may be shown. The driver ignores other
/// parameters with a warning that prints them. A misspelt `pasword=…` must not get that far.
const URL_PARAMETERS: [(&str, bool); 18] = [
    ("sslmode", true),
    ("ssl-mode", true),
    ("sslrootcert", true),
    ("ssl-root-cert", true),
    ("ssl-ca", true),
    ("sslcert", true),
    ("ssl-cert", true),
    ("sslkey", false),
    ("ssl-key", false),
    ("statement-cache-capacity", true),
    ("host", true),
    ("hostaddr", true),
    ("port", true),
    ("dbname", true),
    ("user", true),
    ("password", false),
    ("application_name", true),
    ("options", true),
];

/// Properties that Tripline sets, and why the user cannot set them.
const OWN_PROPERTIES: [(&str, &str); 21] = [
    ("bootstrap.servers", "use kafka.bootstrap_servers"),
    ("metadata.broker.list", "use kafka.bootstrap_servers"),
    ("group.id", "use kafka.group_id"),
    ("auto.offset.reset", "use kafka.auto_offset_reset"),
    ("enable.auto.commit", PROGRESS),
    ("auto.commit.enable", PROGRESS),
    ("enable.auto.offset.store", PROGRESS),
    ("enable.partition.eof", PROGRESS),
    ("isolation.level", PROGRESS),
    ("transactional.id", PROGRESS),
    ("transaction.timeout.ms", "use kafka.transaction_timeout_ms"),
    ("group.instance.id", PROGRESS),
    ("group.protocol", PROGRESS),
    ("group.remote.assignor", PROGRESS),
    ("partitioner", PROGRESS),
    ("sticky.partitioning.linger.ms", PROGRESS),
    ("enable.idempotence", PROGRESS),
    ("enable.gapless.guarantee", PROGRESS),
    ("acks", PROGRESS),
    ("request.required.acks", PROGRESS),
    ("partition.assignment.strategy", "one member works on all partitions; remove it"),
];

const PROGRESS: &str = "its progress depends on it; remove it";

/// Checks that a property may be passed to librdkafka.
pub(super) fn property(name: &str) -> Result<(), String> {
    match OWN_PROPERTIES.iter().find(|(own, _)| *own == name) {
        Some((_, instead)) => Err(format!("set by Tripline itself: {instead}")),
        None if name.is_empty() || name.contains('\0') => Err("not a librdkafka setting's name".to_owned()),
        None => Ok(()),
    }
}

/// Checks a property of librdkafka that must not be longer than a transaction. Otherwise librdkafka would refuse to
/// create the producer.
pub(super) fn within_transaction(name: &str, value: &str, transaction: Duration) -> Result<(), String> {
    let more = match name {
        "socket.timeout.ms" => 100,
        "message.timeout.ms" | "delivery.timeout.ms" => 0,
        _ => return Ok(()),
    };
    match value.trim().parse::<u128>() {
        Ok(millis) if millis > transaction.as_millis() + more => {
            Err("must not be longer than kafka.transaction_timeout_ms; raise that, or remove it".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks that a path is not empty.
pub(super) fn folder(path: &str) -> Result<(), String> {
    if path.trim().is_empty() { Err("is empty; name a folder".to_owned()) } else { Ok(()) }
}

/// Accepts any text.
pub(super) fn any(_: &str) -> Result<(), String> {
    Ok(())
}

fn plain(name: &str, max: usize) -> Result<(), String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !plain || name.len() > max || name == "." || name == ".." {
        return Err(format!("must be 1 to {max} of A-Z a-z 0-9 . _ - (and neither . nor ..), not {}", shown(name)));
    }
    Ok(())
}

/// Checks Kafka's own rule for names of topics.
pub(super) fn topic(name: &str) -> Result<(), String> {
    plain(name, 249)
}

/// Checks the form `schema.name`, with both names as Postgres stores them.
pub(super) fn table(name: &str) -> Result<(), String> {
    match name.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(()),
        _ => Err(format!("must be schema.name, such as \"public.orders\", not {}", shown(name))),
    }
}

/// Checks the name of a rule, which is used in alert ids, file names and metrics.
pub(super) fn rule_name(name: &str) -> Result<(), String> {
    plain(name, 64)
}

/// Checks the form of a name of the IANA time zone database. Only the server knows which names exist. An offset such as
/// `+03` is rejected, because Postgres reads it as three hours west.
pub(super) fn time_zone(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+/".contains(&byte);
    if name.len() > 64 || !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !name.bytes().all(is_plain) {
        return Err(format!(
            "must be a name of the IANA time zone database such as \"America/Sao_Paulo\" or \"UTC\", not {}",
            shown(name)
        ));
    }
    Ok(())
}

/// Checks that a text has only one line.
pub(super) fn severity(text: &str) -> Result<(), String> {
    if text.chars().count() > 64 || text.contains(char::is_control) {
        return Err(format!("must be one line of at most 64 characters, not {}", shown(text)));
    }
    Ok(())
}

/// Checks a group id, which is also the name of its checkpoint folder.
pub(crate) fn group_id(id: &str) -> Result<(), String> {
    if id.len() > 200 {
        return Err("must be at most 200 bytes long: it is also the name of a folder".to_owned());
    }
    if id == "." || id == ".." || id.contains(['/', '\\']) || id.contains(char::is_control) || id.trim() != id {
        let rule = "must be usable as the name of a folder: no slash, no control character, no space at either end, \
                    and neither . nor ..";
        return Err(format!("{rule}; not {}", shown(id)));
    }
    Ok(())
}

/// Checks the address of a schema registry, which must not contain a login.
pub(super) fn registry_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else { return Err("must be a URL of the form http://host:port".to_owned()) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a login: write source.schema_registry.user and .password".to_owned());
    }
    Ok(())
}

/// Checks `host:port`, comma-separated, as librdkafka accepts them.
pub(super) fn servers(text: &str) -> Result<(), String> {
    // The text is not shown, because a login may precede the `@`.
    if text.contains('@') {
        return Err(
            "must be host:port, without a login: set sasl.username and sasl.password in [kafka.properties]".to_owned()
        );
    }
    let valid = |server: &str| {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !server.ends_with(']') => (host, Some(port)),
            _ => (server, None),
        };
        let port_valid = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        !host.is_empty() && port_valid && !server.contains(char::is_whitespace)
    };
    match text.split(',').map(str::trim).find(|server| !valid(server)) {
        Some(server) => Err(format!("must be host:port, or several separated by commas, not {}", shown(server))),
        None => Ok(()),
    }
}

/// Checks a listening address with its port. It must be of this machine, unless others are allowed.
pub(super) fn listen(text: &str, remote: bool) -> Result<(), String> {
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        return Err(format!("must be an address and a port such as 127.0.0.1:8787, not {}", shown(text)));
    };
    if remote || address.ip().is_loopback() {
        return Ok(());
    }
    Err("lets other machines look, without a password: use 127.0.0.1, or set web.allow_remote = true".to_owned())
}

/// Checks a URL for the Postgres driver. The error shows nothing of it.
///
/// # Errors
/// The problem with the URL, and what to do.
pub fn postgres_url(url: &str) -> Result<(), String> {
    const SHAPE: &str = "must be a URL of the form postgres://user:password@host:port/database";
    const ENCODE: &str = "special characters in user and password must be percent-encoded";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(SHAPE.to_owned());
    }
    for (name, _) in parameters(url) {
        let known = URL_PARAMETERS.iter().any(|(known, _)| *known == name);
        if !known && !name.is_empty() && !name.starts_with("options[") {
            // The name is not shown, because the text after a stray `?` or `&` may be the rest of a password.
            let names: Vec<&str> = URL_PARAMETERS.iter().map(|(name, _)| *name).collect();
            return Err(format!("has an unknown parameter after `?`; known: {}; {ENCODE}", names.join(", ")));
        }
    }
    match PgConnectOptions::from_str(url) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{SHAPE} ({}); {ENCODE}", reason(&error))),
    }
}

/// Returns the driver's reason without its preamble. It contains no part of user or password.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => inner.to_string(),
        _ => "it cannot be parsed".to_owned(),
    }
}

/// Returns the names and values after `?`.
fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Returns a Postgres URL for display. The password, and every parameter that may be a secret, are replaced by `***`. A
/// text that does not look like such a URL is replaced as a whole. If a character of the password should have been
/// percent-encoded, more is hidden, never less.
///
/// ```
/// let shown = tripline::config::redact_url("postgres://bob:hunter2@db.example:5432/shop?sslmode=require");
/// assert_eq!(shown, "postgres://bob:***@db.example:5432/shop?sslmode=require");
/// ```
pub fn redact_url(url: &str) -> String {
    const HIDDEN: &str = "***";
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    if !matches!(scheme, "postgres" | "postgresql") {
        return HIDDEN.to_owned();
    }
    // The last `@` counts, because earlier ones may belong to the password.
    let (user, at, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (user, "@", place),
        None => ("", "", rest),
    };
    // In this case the `@` may be in a parameter's value, and the text after it may be the rest of a secret.
    if user.contains('?') {
        return format!("{scheme}://{HIDDEN}");
    }
    let (user, password) = match user.split_once(':') {
        Some((user, _)) => (user, ":***"),
        None => (user, ""),
    };
    let address = place.split_once(['?', '#']).map_or(place, |(address, _)| address);
    let host = address.split_once('/').map_or(address, |(host, _)| host);
    // This is `user:password` without `@host`, so the text in place of the port is not a port.
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or("", |(_, port)| port);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || user.contains(['/', '#']) {
        return format!("{scheme}://{HIDDEN}");
    }
    let mut shown = format!("{scheme}://{user}{password}{at}{address}");
    for (index, (name, value)) in parameters(place).filter(|(name, _)| !name.is_empty()).enumerate() {
        let (name, value) = match URL_PARAMETERS.iter().find(|(known, _)| *known == name) {
            Some((_, true)) => (name, value),
            Some((_, false)) => (name, HIDDEN),
            None => (HIDDEN, HIDDEN),
        };
        shown.push(if index == 0 { '?' } else { '&' });
        shown.push_str(&format!("{name}={value}"));
    }
    shown
}

/// Returns a value for an error: quoted, with control characters escaped, and not longer than a line.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

/// Checks `http://host:port` or `https://…`, with or without a login.
///
/// # Errors
/// The expected form. The text does not show the URL.
pub fn connect_url(url: &str) -> Result<(), String> {
    const SHAPE: &str = "must be a URL of the form http://host:8083, with user:password@ before the host if need be";
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(SHAPE)?;
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '"' | '\'');
    if host.is_empty() || host.starts_with(':') || url.contains(odd) { Err(SHAPE.to_owned()) } else { Ok(()) }
}

/// Returns a URL without user and password, for display.
pub fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    // The last `@` counts, because a password may contain one that is not encoded.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{}", rest.trim_end_matches('/'))
}
