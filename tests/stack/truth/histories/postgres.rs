//! Postgres as a witness: the table of a history, and each rule's own query over it.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use tripline::confirm::Confirm as _;
use tripline::confirm::postgres::PostgresConfirm;
use tripline::failure::CallError;
use tripline::model::{Key, Timestamp, Value};
use tripline::postgres::options;
use tripline::rule::{Confirm, Rule, render};
use tripline::unit::{Answer, Question};

use super::twins::{TWINS, WANTED, rule};
use crate::harness::{Database, Stack};

pub(super) struct Server {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
    confirm: PostgresConfirm,
    /// Each twin's own SQL, with `$1` for NOW().
    queries: Vec<String>,
}

impl Server {
    pub(super) fn new(database: &Database, rules: &[Rule]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = Stack::get().url(&database.name);
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("SET timezone = 'UTC'").execute(&mut connection).await.unwrap();
            connection
        });
        let as_of = |index: usize| {
            let query = rule(index, Confirm::Required).query;
            let sql = render::original(&query);
            assert_eq!(sql.matches("now()").count(), usize::from(query.bound.is_some()), "{sql}");
            sql.replace("now()", "($1::text)::timestamptz")
        };
        let queries = (0..TWINS.len()).map(as_of).collect();
        let options = options(&url).unwrap();
        let tables = tripline::rule::watched::Watched::one(rules, &WANTED);
        let confirm =
            runtime.block_on(async { PostgresConfirm::new(options, 1, Duration::from_secs(5), rules, &tables) });
        Self { runtime, connection, confirm, queries }
    }

    /// Writes, and returns the id of the transaction that did.
    pub(super) fn write(&mut self, sql: &str) -> u32 {
        let sql = format!("WITH written AS ({sql} RETURNING 1) SELECT pg_current_xact_id()::text FROM written");
        let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_all(&mut self.connection);
        let ids = self.runtime.block_on(query).unwrap();
        let id: u64 = ids.first().map_or(0, |id| id.parse().unwrap());
        u32::try_from(id % (1 << 32)).unwrap()
    }

    pub(super) fn truncate(&mut self) {
        let sql = sqlx::raw_sql("TRUNCATE streaming.transactions");
        self.runtime.block_on(sql.execute(&mut self.connection)).unwrap();
    }

    pub(super) fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>> {
        self.runtime.block_on(self.confirm.ask(question))
    }

    pub(super) fn returns(&mut self, index: usize, now: Timestamp) -> BTreeSet<Key> {
        let sql = self.queries[index].clone();
        let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
        if sql.contains("$1") {
            query = query.bind(now.rfc3339());
        }
        let rows = self.runtime.block_on(query.fetch_all(&mut self.connection)).unwrap();
        let key = |row: &PgRow| Key::new(vec![row.get::<Option<i64>, _>("user_id").map_or(Value::Null, Value::Int)]);
        rows.iter().map(key).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.runtime.block_on(self.confirm.close());
    }
}
