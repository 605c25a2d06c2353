//! The time zones of rules: the configured one, or that of a plain session of this role in this database. Their offsets
//! come from the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use super::{CONNECT_MAX, Database, kind_of_code, no_answer, plain, query, query_scalar};
use crate::failure::{CallError, Kind, Server};
use crate::model::zone::Zone;

/// The start of known offsets, in seconds since 1970: 1850. Before, each place had its own local time.
const FROM: i64 = -3_786_912_000;
/// The end of known offsets: 2100. Later times have the last offset.
const TO: i64 = 4_102_444_800;
/// How long the offsets of a zone are used before they are read again. A server may get another time zone database.
const BELIEVED_FOR: Duration = Duration::from_secs(86_400);

/// The zone that a rule needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any zone: the query has the same meaning in all of them.
    Any,
    /// The zone with this name, from this setting.
    Named(String, String),
    /// The zone of a plain session.
    Plain,
}

/// Zones by name, with the time when each was read.
type Known = BTreeMap<String, (Arc<Zone>, Instant)>;

/// Finds the zones of rules. Clones share the known zones.
#[derive(Clone, Debug)]
pub struct Zones {
    database: Database,
    wanted: Vec<Wanted>,
    known: Arc<Mutex<Known>>,
}

impl Zones {
    /// Creates a finder for rules that need these zones.
    pub fn new(database: Database, wanted: Vec<Wanted>) -> Self {
        Self { database, wanted, known: Arc::default() }
    }

    /// Returns the name of each rule's zone.
    ///
    /// # Errors
    /// Those of [`Zones::find`].
    pub async fn names(&self) -> Result<Vec<String>, CallError> {
        Ok(self.find().await?.iter().map(|zone| zone.name().to_owned()).collect())
    }

    /// Returns the current zone of each rule. A known zone is read again once a day.
    ///
    /// # Errors
    /// The server is unreachable or refuses, or a name is not a zone's.
    pub async fn find(&self) -> Result<Vec<Arc<Zone>>, CallError> {
        let plain = match self.wanted.contains(&Wanted::Plain) {
            true => Some(self.database.plain_time_zone().await?),
            false => None,
        };
        let mut found = Vec::new();
        for wanted in &self.wanted {
            found.push(match wanted {
                Wanted::Any => Arc::default(),
                Wanted::Named(name, setting) => self.zone(name, Some(setting)).await?,
                Wanted::Plain => self.zone(plain.as_deref().unwrap_or("UTC"), None).await?,
            });
        }
        Ok(found)
    }

    /// Returns the zones with these names, from this setting.
    ///
    /// # Errors
    /// Those of [`Zones::find`].
    pub async fn named(&self, names: &[String], setting: &String) -> Result<Vec<Arc<Zone>>, CallError> {
        let mut found = Vec::new();
        for name in names {
            found.push(self.zone(name, Some(setting)).await?);
        }
        Ok(found)
    }

    async fn zone(&self, name: &str, setting: Option<&String>) -> Result<Arc<Zone>, CallError> {
        if Zone::is_utc_name(name) {
            return Ok(Arc::default());
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let held = known().get(name).cloned();
        if let Some((zone, since)) = &held
            && since.elapsed() < BELIEVED_FOR
        {
            return Ok(Arc::clone(zone));
        }
        let read = self.database.attempt(Duration::ZERO, async |connection| {
            let zone = read(connection, name, setting.is_some()).await.map_err(|error| self.database.failed(error))?;
            zone.ok_or_else(|| {
                let problem = format!(
                    "{name:?} is no time zone of the IANA database that this server knows: write one as \
                     \"America/Sao_Paulo\" or \"UTC\""
                );
                CallError::new(setting.cloned().unwrap_or_default(), problem, Kind::Misconfigured)
            })
        });
        let zone = Arc::new(read.await?);
        // The same value as long as it is equal: who holds it need not compare offsets.
        let zone = held.map(|(held, _)| held).filter(|held| **held == *zone).unwrap_or(zone);
        known().insert(name.to_owned(), (Arc::clone(&zone), Instant::now()));
        Ok(zone)
    }
}

/// Reads the offsets of a zone in the transaction of this connection. `None`: `is_iana` is set, and the zone is not in
/// the IANA database.
async fn read(connection: &mut PgConnection, name: &str, is_iana: bool) -> Result<Option<Zone>, sqlx::Error> {
    let mut name = name.to_owned();
    if is_iana {
        let known = "select name from pg_catalog.pg_timezone_names where lower(name) = lower($1) order by name limit 1";
        let known = query_scalar(known).bind(&name).fetch_optional(&mut *connection).await?;
        let Some(known) = known else { return Ok(None) };
        name = known;
    }
    set_zone(connection, &name).await?;
    sqlx::raw_sql("set local jit = off; set local statement_timeout = 60000").execute(&mut *connection).await?;
    let rows = query(include_str!("zone.sql")).bind(FROM).bind(TO).fetch_all(connection).await?;
    let changes = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let changes: Vec<(i64, i64)> = changes.collect::<Result<_, sqlx::Error>>()?;
    let first = changes.first().map_or(0, |(_, offset)| *offset);
    Ok(Some(Zone::new(name, first, changes.into_iter().skip(1))))
}

/// Sets the time zone for the rest of the transaction.
///
/// # Errors
/// The server's error.
pub async fn set_zone(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let statement = format!("set local timezone = {}", quoted(name));
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

/// A literal that does not depend on `standard_conforming_strings`.
pub(super) fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

impl Database {
    /// Reads the time zone of a session of this role in this database whose client names none.
    ///
    /// # Errors
    /// The server is unreachable or refuses.
    pub async fn plain_time_zone(&self) -> Result<String, CallError> {
        let asked = tokio::time::timeout(CONNECT_MAX, plain::time_zone(&self.options)).await;
        let (problem, kind) = match asked {
            Ok(Ok(name)) => return Ok(name),
            Ok(Err(plain::PlainError::Server(error))) => {
                let kind = error.code().map_or(Kind::Unreachable, |code| kind_of_code(code.code()));
                (plain::PlainError::Server(error).to_string(), kind)
            }
            Ok(Err(error)) => (error.to_string(), Kind::Refused),
            Err(_) => (no_answer(CONNECT_MAX).to_string(), Kind::Unreachable),
        };
        let call = format!("Postgres at {} ({})", self.shown, self.setting);
        let problem =
            format!("the time zone of a plain session could not be asked for: {problem}; or set postgres.time_zone");
        Err(CallError::new(call, problem, kind).at(Server::Postgres))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(quoted("Europe/Berlin"), "E'Europe/Berlin'");
        assert_eq!(quoted("a'b\\"), "E'a''b\\\\'");
    }
}
