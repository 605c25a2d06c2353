//! The meaning of librdkafka's errors. No other module reads their codes, or their texts where there is no code.

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use crate::failure::{CallError, Kind, RefusedLogin, Server};

/// Classifies an error. A code that is not listed counts as temporary.
pub fn kind(error: &KafkaError) -> Kind {
    use RDKafkaErrorCode as Code;
    let is_fatal = match error {
        KafkaError::Transaction(error) => error.is_fatal(),
        KafkaError::MessageConsumptionFatal(_) => true,
        _ => false,
    };
    match error.rdkafka_error_code() {
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::SSL
            | Code::MessageSizeTooLarge
            | Code::OffsetMetadataTooLarge
            | Code::InvalidCommitOffsetSize,
        ) => Kind::Refused,
        Some(
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::Fatal
            | Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping,
        ) => Kind::Fenced,
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => Kind::Unsafe,
        _ if is_fatal => Kind::Fenced,
        _ => match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => Kind::Misconfigured,
            _ => Kind::Unreachable,
        },
    }
}

/// Whether the client is cut off from the brokers. This also shows in its statistics and in every call.
pub fn is_cut_off(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut))
}

/// The beginning of OpenSSL's message about an alert from the other side of a handshake.
const ALERT: &str = "SSL alert number";
/// The numbers of TLS alerts about a certificate: bad_certificate to unknown_ca, and certificate_required.
const OF_CERTIFICATES: [u8; 8] = [42, 43, 44, 45, 46, 48, 111, 116];

/// Returns the part of a login that was refused, from an event of the client. `None`: the event is about something
/// else. `has_token`: the login is a token.
///
/// A broker that requires a client certificate says so in a TLS alert while it closes the connection. For the client
/// library that is a lost connection, and only its message has the number of the alert.
pub fn refused_login(error: &KafkaError, reason: &str, has_token: bool) -> Option<RefusedLogin> {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::SSL) => Some(RefusedLogin::Certificate),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) if has_token => Some(RefusedLogin::Token),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => Some(RefusedLogin::Password),
        _ => alert(reason).filter(|number| OF_CERTIFICATES.contains(number)).map(|_| RefusedLogin::Certificate),
    }
}

/// The number of the alert with which the other side ended a handshake.
fn alert(reason: &str) -> Option<u8> {
    let (_, rest) = reason.split_once(ALERT)?;
    let digits = rest.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// Whether this client rejects the broker's certificate. OpenSSL's reason is the only sign.
pub fn is_unverified(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

/// The error of a failed call. If a client could not be created for the call, the text names the property. It does not
/// have the value, which may be a secret.
pub fn failed(call: &str, error: KafkaError) -> CallError {
    let kind = kind(&error);
    let is_cut_off = is_cut_off(&error);
    if let Some(text) = named(&error) {
        return CallError::new(call, text, kind);
    }
    let failed = CallError::from_source(call, error, kind).at(Server::Kafka);
    if !is_cut_off {
        return failed;
    }
    let problem = format!("could not be reached: {}", failed.problem);
    failed.with_problem(problem)
}

/// What is wrong with a property. The text has the property's name and not its value.
fn named(error: &KafkaError) -> Option<String> {
    let KafkaError::ClientConfig(problem, _, name, _) = error else { return None };
    Some(match problem {
        RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => {
            let hint = "; in the name of a variable, _ stands for a dot and __ for an underscore";
            let hint = if name.contains('_') { hint } else { "" };
            format!("{name} is not a setting of librdkafka, or this build does not have it{hint}")
        }
        _ => format!("the value of {name} is not valid"),
    })
}

/// Whether the value of a property must not be shown.
fn may_be_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = ["password", "secret", "key", "token", "jaas", "oauthbearer", ".pem", "username"];
    WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word))
}

/// The error of a client that cannot be created because of a property. Values of properties may be secrets and are not
/// repeated.
pub fn bad_property(error: &KafkaError, settings: &ClientConfig) -> CallError {
    let mut text = named(error).unwrap_or_else(|| error.to_string());
    for (name, value) in settings.config_map() {
        if may_be_secret(name) && !value.is_empty() {
            text = text.replace(value, "***");
        }
    }
    let missing = ["OpenSSL not available", "No provider for SASL"].iter().any(|hint| text.contains(hint));
    let hint = if missing && !cfg!(feature = "kafka-tls") {
        "; this build was made without the feature kafka-tls"
    } else {
        ""
    };
    CallError::new("kafka.properties", format!("{text}{hint}"), Kind::Misconfigured)
}

#[cfg(test)]
mod tests;
