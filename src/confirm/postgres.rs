//! Confirmation by Postgres: one statement for many keys, read only, in the rule's time zone, with a limit of its own.
//!
//! - this file: the statements of a run
//! - [`catalog`]: a table's description (for the archive, in [`catalog::full_row`]), and whether Postgres reads a rule
//!   as memory does
//! - [`contract`]: the properties of the table and its server
//! - [`load`]: all rows of a rule's window
//! - [`explain`]: the rows behind an alert, as they are now
//! - [`text`]: the texts of rules that Postgres alone evaluates
//! - [`trace`]: the rows of a key with a running total

pub mod catalog;
pub mod contract;
mod errors;
pub mod explain;
mod load;
pub mod text;
pub mod trace;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Row};

use self::errors::{bad, failed, is_of_the_data};
use super::Confirm;
use crate::alert::{key_texts, scale_at, value_text};
use crate::contract::Look;
use crate::failure::CallError;
use crate::model::zone::Zone;
use crate::model::{Key, Lsn, Timestamp};
use crate::postgres::zones::Zones;
use crate::postgres::{Sees, Session, no_answer, query};
use crate::rule::table_row::{TableRow, table_row, value};
use crate::rule::watched::Watched;
use crate::rule::{self, OutputExpr, Rule, Time, render};
use crate::unit::audit::AUDIT_KEYS;
use crate::unit::{Answer, Asked, Compared, Question};

/// How long a statement waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the whole query of a rule that Postgres alone evaluates may take, and so hold its snapshot.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much longer an answer may take than the statement's own limit.
pub(super) const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// The statements of one rule.
struct Statements {
    time: Time,
    keyed: String,
    rows: String,
    rows_by_key: String,
    all_rows: String,
    all_rows_in: String,
    holding: String,
    /// The statements of the audit.
    audit: AuditStatements,
    query: rule::Query,
    /// The name of each output over aggregates, and whether it is a count.
    outputs: Vec<(String, bool)>,
}

/// The statements that the audit runs for one rule.
struct AuditStatements {
    keyed: String,
    rows: String,
    first_keys: String,
    next_keys: String,
}

/// Runs statements on a Postgres server.
pub struct PostgresConfirm {
    pool: PgPool,
    rules: Vec<Statements>,
    /// The time zone of each rule.
    names: RwLock<Vec<String>>,
    zones: Option<Zones>,
    /// The tables whose changes are read.
    tables: Vec<Watched>,
    answer_timeout: Duration,
}

impl PostgresConfirm {
    /// Prepares the statements of these rules, in order, over the columns that are read from these tables. The first
    /// question opens a connection.
    pub fn new(
        options: PgConnectOptions,
        connections_max: u32,
        statement_timeout: Duration,
        rules: &[Rule],
        tables: &[Watched],
    ) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .acquire_slow_threshold(ACQUIRE_TIMEOUT) // says nothing of its own: an outage has its three lines
            .connect_lazy_with(options);
        Self {
            pool,
            names: RwLock::new(rules.iter().map(|rule| rule.query.zone.name().to_owned()).collect()),
            zones: None,
            rules: rules.iter().map(|rule| Statements::new(rule, own(tables, &rule.query))).collect(),
            tables: tables.to_vec(),
            answer_timeout: statement_timeout + ANSWER_MARGIN,
        }
    }

    /// Sets the source of the rules' time zones.
    #[must_use]
    pub fn with_zones(self, zones: Zones) -> Self {
        Self { zones: Some(zones), ..self }
    }

    /// The statement that begins a transaction of a rule's session.
    fn begin(&self, session: Session, rule: usize) -> AssertSqlSafe<String> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        AssertSqlSafe(session.begin(Sees::Newest, names.get(rule).map_or("UTC", String::as_str)))
    }

    /// Closes the connections. A connection that does not answer remains until the process ends.
    pub async fn close(&self) {
        if tokio::time::timeout(ACQUIRE_TIMEOUT, self.pool.close()).await.is_err() {
            tracing::warn!("a connection to Postgres did not close in time");
        }
    }

    fn statements(&self, rule: usize) -> Result<&Statements, CallError> {
        self.rules.get(rule).ok_or_else(|| bad("no such rule"))
    }

    fn table_row(&self, statements: &Statements, row: &PgRow) -> Result<TableRow, CallError> {
        let texts = (0..row.len()).map(|column| row.try_get(column)).collect::<Result<Vec<_>, _>>();
        table_row(&statements.query, own(&self.tables, &statements.query), &texts.map_err(failed)?).map_err(bad)
    }

    /// Runs a statement with a limit on this side too: the server's own limit does not help if the answer never
    /// arrives. A connection whose statement is abandoned is closed and never used again.
    async fn fetch(&self, rule: usize, statement: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, sqlx::Error> {
        let limit = self.answer_timeout.saturating_sub(ANSWER_MARGIN);
        self.fetch_within(limit, rule, statement).await
    }

    /// Runs a statement with this limit.
    async fn fetch_within(
        &self,
        limit: Duration,
        rule: usize,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let asked = async {
            let mut transaction = connection.begin_with(self.begin(Session::Reading(limit), rule)).await?;
            statement.fetch_all(&mut *transaction).await
        };
        match tokio::time::timeout(limit + ANSWER_MARGIN, asked).await {
            Ok(answered) => answered,
            Err(_) => {
                drop(connection.detach());
                Err(no_answer(limit + ANSWER_MARGIN))
            }
        }
    }

    /// Asks about some of a question's groups. If the database rejects the statement, each half is asked separately, so
    /// that one bad group does not hold up the others.
    async fn ask_some<A>(
        &self,
        rule: usize,
        statements: &Statements,
        sql: &str,
        asked: &[Asked],
        read: impl Fn(&Statements, &PgRow, u64) -> Result<A, sqlx::Error> + Copy,
    ) -> Vec<Result<A, CallError>> {
        let mut answers = Vec::with_capacity(asked.len());
        let mut parts = vec![asked];
        while let Some(part) = parts.pop() {
            match self.statement(rule, statements, sql, part, read).await {
                Ok(got) => answers.extend(got),
                Err(sqlx::Error::Database(error)) if part.len() > 1 && is_of_the_data(&*error) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Err(error) => {
                    let failed = failed(error);
                    answers.extend(part.iter().map(|_| Err(failed.clone())));
                }
            }
        }
        answers
    }

    #[expect(clippy::disallowed_methods, reason = "a duration for the record, which decides nothing")]
    async fn statement<A>(
        &self,
        rule: usize,
        statements: &Statements,
        sql: &str,
        asked: &[Asked],
        read: impl Fn(&Statements, &PgRow, u64) -> Result<A, sqlx::Error>,
    ) -> Result<Vec<Result<A, CallError>>, sqlx::Error> {
        let started = Instant::now();
        let instants: Vec<String> = asked.iter().map(|asked| instant(asked.now)).collect();
        let query = query(AssertSqlSafe(sql.to_owned()));
        let rows = match asked.first() {
            Some(one) if one.has_null() => {
                let mut query = query.bind(instants.first());
                for text in one.texts.iter().flatten() {
                    query = query.bind(text);
                }
                self.fetch(rule, query).await?
            }
            _ => {
                let mut keys = columns_of(asked);
                let query = query.bind(keys.next().unwrap_or_default());
                let query = match statements.time {
                    Time::Processing => query.bind(instants.first()),
                    Time::Event => query.bind(&instants),
                };
                self.fetch(rule, keys.fold(query, Query::bind)).await?
            }
        };
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if statements.query.text.is_some() {
            return by_place(&rows, asked.len(), |row| read(statements, row, millis));
        }
        if rows.len() != asked.len() {
            let problem = format!("{} groups asked, {} answered", asked.len(), rows.len());
            return Err(sqlx::Error::Protocol(problem));
        }
        rows.iter().map(|row| read(statements, row, millis).map(Ok)).collect()
    }

    /// Asks about all of a question's groups, in their order. The statements are for keys without NULL, and for one key
    /// with NULLs.
    async fn ask_all<A: Clone>(
        &self,
        question: &Question,
        keyed: impl Fn(&Statements) -> &str,
        null: impl Fn(&rule::Query, Time, &[bool]) -> render::Confirmation,
        read: impl Fn(&Statements, &PgRow, u64) -> Result<A, sqlx::Error> + Copy,
    ) -> Vec<Result<A, CallError>> {
        let statements = match self.statements(question.rule) {
            Ok(statements) => statements,
            Err(error) => return question.asked.iter().map(|_| Err(error.clone())).collect(),
        };
        let whole: Vec<Asked> = question.asked.iter().filter(|asked| !asked.has_null()).cloned().collect();
        let mut answers = match whole.is_empty() {
            true => Vec::new(),
            false => self.ask_some(question.rule, statements, keyed(statements), &whole, read).await,
        }
        .into_iter();
        let mut all = Vec::with_capacity(question.asked.len());
        for asked in &question.asked {
            let answer = if asked.has_null() {
                // NULL is equal to nothing, so such a group is asked for by a statement of its own.
                let nulls: Vec<bool> = asked.texts.iter().map(Option::is_none).collect();
                let sql = null(&statements.query, statements.time, &nulls).sql;
                self.ask_some(question.rule, statements, &sql, std::slice::from_ref(asked), read).await.pop()
            } else {
                answers.next()
            };
            all.push(answer.unwrap_or_else(|| Err(bad("no answer"))));
        }
        all
    }

    fn keys(statements: &Statements, rows: &[PgRow]) -> Result<Vec<Key>, CallError> {
        let query = &statements.query;
        let key = |row: &PgRow| {
            let columns = query.group_by.iter().enumerate().map(|(place, index)| {
                let text: Option<String> = row.try_get(place).map_err(failed)?;
                let column = query.table.columns.get(*index).ok_or_else(|| bad("no such column"))?;
                value(column, text.as_deref()).map_err(bad)
            });
            columns.collect::<Result<_, _>>().map(Key::new)
        };
        rows.iter().map(key).collect()
    }
}

impl Confirm for PostgresConfirm {
    async fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>> {
        self.ask_all(question, |texts| &texts.keyed, render::confirmation_null, Statements::answer).await
    }

    async fn compare(&self, question: &Question) -> Vec<Result<Compared, CallError>> {
        self.ask_all(question, |texts| &texts.audit.keyed, render::comparison_null, Statements::compared).await
    }

    async fn page(&self, rule: usize, after: Option<&Key>, now: Timestamp) -> Result<Vec<Key>, CallError> {
        let statements = self.statements(rule)?;
        let limit = i64::try_from(AUDIT_KEYS).unwrap_or(i64::MAX);
        let rows = match after {
            None => {
                let query = query(AssertSqlSafe(statements.audit.first_keys.clone()));
                self.fetch(rule, query.bind(instant(now)).bind(limit)).await
            }
            Some(key) => {
                let query = query(AssertSqlSafe(statements.audit.next_keys.clone())).bind(instant(now)).bind(limit);
                self.fetch(rule, key_texts(&statements.query, key).into_iter().fold(query, Query::bind)).await
            }
        };
        Self::keys(statements, &rows.map_err(failed)?)
    }

    async fn rows_of(&self, question: &Question) -> Result<Vec<TableRow>, CallError> {
        let statements = self.statements(question.rule)?;
        let Some(now) = question.asked.iter().map(|asked| asked.now).max() else { return Ok(Vec::new()) };
        let whole: Vec<Asked> = question.asked.iter().filter(|asked| !asked.has_null()).cloned().collect();
        let mut rows = Vec::new();
        if !whole.is_empty() {
            let mut keys = columns_of(&whole);
            let query = query(AssertSqlSafe(statements.audit.rows.clone())).bind(keys.next().unwrap_or_default());
            let query = keys.fold(query.bind(instant(now)), Query::bind);
            for row in self.fetch(question.rule, query).await.map_err(failed)? {
                rows.push(self.table_row(statements, &row)?);
            }
        }
        for asked in question.asked.iter().filter(|asked| asked.has_null()) {
            rows.extend(self.rows(question.rule, asked).await?);
        }
        Ok(rows)
    }

    async fn look(&self) -> Result<Look, CallError> {
        let (mut look, mut is_first) = (Look::default(), true);
        for watched in &self.tables {
            let asked = query(contract::STATEMENT).bind(&watched.table.schema).bind(&watched.table.name);
            let rows = self.fetch(0, asked).await.map_err(failed)?;
            let (contract, seen) = rows.first().map(contract::read).transpose().map_err(failed)?.unwrap_or_default();
            // Both of before all contracts.
            if std::mem::take(&mut is_first) {
                (look.position, look.flushed) = (seen.position, seen.flushed);
            }
            look.contracts.0.insert(watched.table.to_string(), contract.of_columns(watched.needed()));
        }
        Ok(look)
    }

    async fn snapshot(&self) -> Result<String, CallError> {
        let text = |rows: Vec<PgRow>| rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0);
        self.fetch(0, query("select pg_current_snapshot()::text")).await.and_then(text).map_err(failed)
    }

    async fn rows(&self, rule: usize, asked: &Asked) -> Result<Vec<TableRow>, CallError> {
        let statements = self.statements(rule)?;
        let mut texts = asked.texts.iter();
        let query = query(AssertSqlSafe(statements.rows.clone())).bind(texts.next().cloned().flatten());
        let query = texts.fold(query.bind(instant(asked.now)), Query::bind);
        let rows = self.fetch(rule, query).await.map_err(failed)?;
        rows.iter().map(|row| self.table_row(statements, row)).collect()
    }

    async fn lookup(&self, table: usize, pks: &[Key]) -> Result<Vec<TableRow>, CallError> {
        let watched = self.tables.get(table).ok_or_else(|| bad("no such table"))?;
        let is_of = |statements: &&Statements| watched.place_in(&statements.query) == Some(0);
        let statements = self.rules.iter().find(is_of).ok_or_else(|| bad("no rule is on this table"))?;
        let table = &statements.query.table;
        let mut query = query(AssertSqlSafe(statements.rows_by_key.clone()));
        for (place, column) in table.primary_key.iter().enumerate() {
            let scale = scale_at(table, *column);
            let text = |pk: &Key| pk.values().get(place).and_then(|value| value_text(value, scale));
            query = query.bind(pks.iter().map(text).collect::<Vec<_>>());
        }
        let rows = self.fetch(0, query).await.map_err(failed)?;
        rows.iter().map(|row| self.table_row(statements, row)).collect()
    }

    async fn load(&self, rule: usize, now: Timestamp, take: &mut dyn FnMut(TableRow)) -> Result<Lsn, CallError> {
        self.load_all(rule, now, take).await
    }

    async fn zones(&self) -> Result<Vec<Arc<Zone>>, CallError> {
        match &self.zones {
            Some(zones) => zones.find().await,
            None => Ok(Vec::new()),
        }
    }

    fn use_zones(&self, zones: &[Arc<Zone>]) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        *names = zones.iter().map(|zone| zone.name().to_owned()).collect();
    }

    async fn sweep(&self, rule: usize, now: Timestamp) -> Result<Vec<Key>, CallError> {
        let statements = self.statements(rule)?;
        let query = query(AssertSqlSafe(statements.holding.clone())).bind(instant(now));
        let rows = match statements.query.text {
            None => self.fetch(rule, query).await,
            // The query reads whole tables.
            Some(_) => self.fetch_within(WHOLE_TIMEOUT, rule, query).await,
        };
        Self::keys(statements, &rows.map_err(failed)?)
    }
}

/// The columns of some keys, each as an array. The keys contain no NULL.
fn columns_of(asked: &[Asked]) -> impl Iterator<Item = Vec<String>> {
    let columns = asked.first().map_or(0, |asked| asked.texts.len());
    (0..columns).map(|place| asked.iter().filter_map(|asked| asked.texts.get(place).cloned().flatten()).collect())
}

/// Orders answers by the places of the keys. The query may return several rows for a key.
fn by_place<A>(
    rows: &[PgRow],
    count: usize,
    read: impl Fn(&PgRow) -> Result<A, sqlx::Error>,
) -> Result<Vec<Result<A, CallError>>, sqlx::Error> {
    let mut answers: Vec<Option<Result<A, CallError>>> = (0..count).map(|_| None).collect();
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>("ord")?).ok().and_then(|ord| ord.checked_sub(1));
        let Some(answer) = place.and_then(|place| answers.get_mut(place)) else { continue };
        *answer = Some(match answer {
            None => Ok(read(row)?),
            Some(_) => Err(bad(
                "the query returns several rows for one key; set the rule's key to the columns that tell them apart",
            )),
        });
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(bad("no answer")))).collect())
}

/// The columns that are read of a query's own table.
fn own<'t>(tables: &'t [Watched], query: &rule::Query) -> &'t [usize] {
    let own = tables.iter().find(|table| table.place_in(query) == Some(0));
    own.map(|table| table.wanted.as_slice()).unwrap_or_default()
}

impl Statements {
    fn new(rule: &Rule, wanted: &[usize]) -> Self {
        let query = &rule.query;
        let outputs = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Value(..)));
        let outputs = outputs.map(|output| (output.name.clone(), query.is_count(output)));
        Self {
            time: rule.time,
            keyed: render::confirmation(query, rule.time).sql,
            rows: render::rows(query, wanted),
            rows_by_key: render::rows_by_key(query, wanted),
            all_rows: render::all_rows(query, wanted, rule.time),
            all_rows_in: render::all_rows_in(query, wanted, rule.time),
            holding: render::holding(query),
            audit: AuditStatements {
                keyed: render::comparison(query, rule.time).sql,
                rows: render::rows_of(query, wanted, rule.time),
                first_keys: render::keys(query, rule.time, false),
                next_keys: render::keys(query, rule.time, true),
            },
            query: query.clone(),
            outputs: outputs.collect(),
        }
    }

    /// Like [`Self::answer`], with the columns that only the audit reads.
    fn compared(&self, row: &PgRow, millis: u64) -> Result<Compared, sqlx::Error> {
        let (rows, times): (i64, String) = (row.try_get("rows")?, row.try_get("times")?);
        let times = times.parse().map_err(|_| sqlx::Error::Protocol(format!("the sum of times is {times}")))?;
        Ok(Compared { answer: self.answer(row, millis)?, rows: u64::try_from(rows).unwrap_or(0), times })
    }

    /// Columns: ord, snapshot, in_recovery, holds, then the outputs as text.
    fn answer(&self, row: &PgRow, millis: u64) -> Result<Answer, sqlx::Error> {
        if row.try_get::<bool, _>("in_recovery")? {
            // A standby's snapshots name transactions as done that are not visible there.
            let problem = "this server is a standby, which cannot confirm: point postgres.url at the primary";
            return Err(sqlx::Error::Protocol(problem.to_owned()));
        }
        let mut outputs = Map::new();
        for (index, (name, is_count)) in self.outputs.iter().enumerate() {
            let text: Option<String> = row.try_get(4 + index)?;
            let value = match text {
                None => Json::Null,
                Some(text) if *is_count => text.parse::<u64>().map_or(Json::String(text), Json::from),
                Some(text) => Json::String(text),
            };
            outputs.insert(name.clone(), value);
        }
        Ok(Answer {
            holds: row.try_get::<Option<bool>, _>("holds")?.unwrap_or(false),
            outputs,
            snapshot: row.try_get("snapshot")?,
            millis,
        })
    }
}

/// Formats an instant for Postgres. Unlike RFC 3339 it includes the infinities.
fn instant(at: Timestamp) -> String {
    at.rfc3339()
}
