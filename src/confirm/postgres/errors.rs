//! Errors of a statement, and of an answer that does not fit.

use crate::failure::{CallError, Kind, Server};
use crate::postgres::kind;

/// The beginning of every error message.
const CALL: &str = "Postgres";

/// Converts an error of the driver.
pub(super) fn failed(error: sqlx::Error) -> CallError {
    let kind = kind(&error);
    // A statement that runs into its limit says nothing of the server.
    let is_canceled = matches!(&error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"));
    let error = match &error {
        sqlx::Error::Database(of_data) if is_of_the_data(&**of_data) => {
            tracing::debug!(%error, "a statement failed on data");
            CallError::new(CALL, without_values(&of_data.code().unwrap_or_default(), of_data.message()), kind)
        }
        _ => CallError::from_source(CALL, error, kind),
    };
    if is_canceled { error } else { error.at(Server::Postgres) }
}

/// Postgres's message about data, cut before the first value that it quotes.
fn without_values(code: &str, message: &str) -> String {
    let quotes = ['"', '\'', '«', '„', '“'];
    let said = message.split(quotes).next().unwrap_or_default().trim_end_matches([' ', ':']);
    let more = if said.len() < message.len() { "; all of it is logged at DEBUG" } else { "" };
    format!("{said} (SQLSTATE {code}){more}")
}

/// An error for an answer that does not fit the question.
pub(super) fn bad(problem: impl Into<String>) -> CallError {
    CallError::new(CALL, problem, Kind::Internal)
}

/// Whether the error comes from a group's data: SQLSTATE classes 21 and 22 (cardinality, data exceptions).
pub(super) fn is_of_the_data(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("21"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_data_does_not_repeat_it() {
        let check = |message: &str, want: &str| assert_eq!(without_values("22003", message), want);
        check("integer out of range", "integer out of range (SQLSTATE 22003)");
        check(
            "invalid input syntax for type numeric: \"12x\"",
            "invalid input syntax for type numeric (SQLSTATE 22003); all of it is logged at DEBUG",
        );
        check("value \"9\" is out of range", "value (SQLSTATE 22003); all of it is logged at DEBUG");
    }
}
