//! What an error of librdkafka means: the one place that reads its codes.

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use crate::failure::{CallError, Kind};

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

/// A call that failed.
pub fn failed(call: &str, error: KafkaError) -> CallError {
    use RDKafkaErrorCode as Code;
    let kind = kind(&error);
    let code = error.rdkafka_error_code();
    let failed = CallError::from_source(call, error, kind);
    match code {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut) => {
            let problem = format!("could not be reached: {}", failed.problem);
            failed.with_problem(problem)
        }
        _ => failed,
    }
}

/// A client that cannot be made: a property is wrong. Values of properties may be secrets, and are not repeated.
pub fn bad_property(error: &KafkaError, settings: &ClientConfig) -> CallError {
    let mut text = match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            format!("{name} is not a setting of librdkafka, or this build does not have it")
        }
        KafkaError::ClientConfig(_, _, name, _) => format!("the value of {name} is not valid"),
        other => other.to_string(),
    };
    let may_be_secret =
        |name: &str| ["password", "secret", "key", "token", "jaas"].iter().any(|word| name.contains(word));
    for (name, value) in settings.config_map() {
        if may_be_secret(name) && !value.is_empty() {
            text = text.replace(value, "***");
        }
    }
    let missing = ["OpenSSL not available", "No provider for SASL"].iter().any(|hint| text.contains(hint));
    let hint = if missing && !cfg!(feature = "kafka-tls") { "; build tripline with --features kafka-tls" } else { "" };
    CallError::new("kafka.properties", format!("{text}{hint}"), Kind::Misconfigured)
}
