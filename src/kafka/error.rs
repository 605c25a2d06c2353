//! What an error of librdkafka means: the one place that reads its codes.

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use crate::failure::{CallError, Kind, Server};

/// What follows from an error. A code that is not listed may pass.
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

/// Whether the client is cut off from the brokers, which shows in its statistics and in every call.
pub fn is_cut_off(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut))
}

/// A call that failed. Where a client could not be made for it, the text names the property and not its value, which may
/// be a secret.
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

/// What is wrong with a property, by its name alone.
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

/// A client that cannot be made: a property is wrong. Values of properties may be secrets, and are not repeated.
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
mod tests {
    use rdkafka::producer::FutureProducer;

    use super::*;

    #[test]
    fn a_property_is_named_and_its_value_is_not() {
        let check = |name: &str, value: &str, want: &str| {
            let mut settings = ClientConfig::new();
            settings.set(name, value);
            let made: Result<FutureProducer, KafkaError> = settings.create();
            let error = made.err().unwrap();
            let by_property = bad_property(&error, &settings);
            let by_call = failed("Kafka: fencing", error);
            for error in [&by_property, &by_call] {
                let shown = format!("{error} {error:?}");
                assert!(shown.contains(want) && !shown.contains("hunter2"), "{shown}");
                assert_eq!(error.kind, Kind::Misconfigured);
            }
        };
        let underscore = "sasl_password is not a setting of librdkafka, or this build does not have it; in the name of a variable, _ stands for a dot";
        check("sasl_password", "hunter2", underscore);
        check("sasl.passwort", "hunter2", "sasl.passwort is not a setting of librdkafka");
        check("ssl.keystore.passwort", "hunter2", "ssl.keystore.passwort is not a setting");
        check("socket.timeout.ms", "hunter2", "the value of socket.timeout.ms is not valid");
        check("security.protocol", "hunter2", "the value of security.protocol is not valid");
    }
}
