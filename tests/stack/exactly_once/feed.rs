//! A table, and its changes in Kafka as Debezium writes them: two partitions, by the row's id.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord};
use serde_json::{Value as Json, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::time::Duration;

use crate::harness::Stack;

const CALL: Duration = Duration::from_secs(20);
const PARTITIONS: usize = 2;

/// `<schema>.transactions`, written here and nowhere else, so that its SQL says what there is to tell.
pub(super) struct Feed {
    pub(super) schema: String,
    pub(super) topic: String,
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
    admin: AdminClient<DefaultClientContext>,
    producer: BaseProducer,
    /// Written, and not yet told.
    held: Vec<(usize, String, Option<String>)>,
    /// By partition, once all is told.
    pub(super) ends: [i64; PARTITIONS],
    /// Records that nobody can understand: partition and offset.
    pub(super) bad: Vec<(i64, i64)>,
}

impl Feed {
    /// The topics that a run of this feed may write to are made as well, with one partition each.
    pub(super) fn new(database: &str, schema: &str, topic: &str, others: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = Stack::get().url(database);
        let connection = runtime.block_on(PgConnection::connect(&url)).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &Stack::get().bootstrap);
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let partitions = i32::try_from(PARTITIONS).unwrap();
        let mut topics = vec![NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        topics.extend(others.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))));
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        for made in runtime.block_on(admin.create_topics(&topics, &options)).unwrap() {
            made.unwrap();
        }
        let producer = config.set("enable.idempotence", "true").set("linger.ms", "0").create().unwrap();
        let (schema, topic) = (schema.to_owned(), topic.to_owned());
        let mut feed = Self {
            schema,
            topic,
            runtime,
            connection,
            admin,
            producer,
            held: Vec::new(),
            ends: [0; PARTITIONS],
            bad: Vec::new(),
        };
        feed.sql("SET timezone = 'UTC'");
        feed.sql(&format!(
            "CREATE SCHEMA {0};
             CREATE TABLE {0}.transactions (id bigint PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
                                            \"timestamp\" timestamptz NOT NULL);
             CREATE INDEX ON {0}.transactions (user_id, \"timestamp\")",
            feed.schema
        ));
        feed
    }

    /// The feed's topic and these.
    pub(super) fn remove_topics(&self, others: &[&str]) {
        let names: Vec<&str> = others.iter().copied().chain([self.topic.as_str()]).collect();
        let gone = self.runtime.block_on(self.admin.delete_topics(&names, &AdminOptions::new()));
        drop(gone); // without it there is only more to keep
    }

    pub(super) fn sql(&mut self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        self.runtime.block_on(done).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(super) fn rows(&mut self, sql: &str) -> Vec<PgRow> {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        self.runtime.block_on(done).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Anything that is asked of a connection.
    pub(super) fn with<T>(&mut self, ask: impl AsyncFnOnce(&mut PgConnection) -> T) -> T {
        self.runtime.block_on(ask(&mut self.connection))
    }

    /// Rows of (id, user, amount, time as SQL), in one transaction.
    pub(super) fn insert(&mut self, rows: &[(i64, i64, &str, &str)]) {
        let rows: Vec<String> =
            rows.iter().map(|(id, user, amount, at)| format!("({id}, {user}, {amount}, {at})")).collect();
        let table = format!("{}.transactions", self.schema);
        self.write(
            'c',
            &format!("INSERT INTO {table} (id, user_id, amount, \"timestamp\") VALUES {}", rows.join(", ")),
        );
    }

    pub(super) fn update(&mut self, set: &str, condition: &str) {
        self.write('u', &format!("UPDATE {}.transactions SET {set} WHERE {condition}", self.schema));
    }

    pub(super) fn delete(&mut self, condition: &str) {
        self.write('d', &format!("DELETE FROM {}.transactions WHERE {condition}", self.schema));
    }

    /// One transaction. The stream knows nothing of it yet.
    fn write(&mut self, op: char, sql: &str) {
        let rows = self.rows(&format!(
            "WITH written AS ({sql} RETURNING *)
             SELECT id, user_id, amount::text AS amount,
                    to_char(\"timestamp\", 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS at,
                    current_database()::text AS db,
                    pg_current_xact_id()::text::bigint % 4294967296 AS tx_id,
                    (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS lsn,
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms
             FROM written ORDER BY id"
        ));
        for row in &rows {
            let id: i64 = row.get("id");
            let key = json!({ "id": id }).to_string();
            let change = self.envelope(op, id, row);
            self.send(id, &key, Some(&change.to_string()));
            if op == 'd' {
                self.send(id, &key, None);
            }
        }
    }

    fn envelope(&self, op: char, id: i64, row: &PgRow) -> Json {
        let image = json!({
            "id": id, "user_id": row.get::<i64, _>("user_id"), "amount": row.get::<String, _>("amount"),
            "timestamp": row.get::<String, _>("at"),
        });
        // With REPLICA IDENTITY DEFAULT Debezium knows the key of a deleted row and makes up the rest.
        let before = json!({ "id": id, "user_id": 0, "amount": "0.00", "timestamp": "1970-01-01T00:00:00.000000Z" });
        let (before, after) = if op == 'd' { (before, Json::Null) } else { (Json::Null, image) };
        let ms: i64 = row.get("ms");
        json!({
            "before": before, "after": after, "op": op.to_string(), "ts_ms": ms, "transaction": null,
            "source": {
                "version": "3.7.0.Final", "connector": "postgresql", "name": "feed", "ts_ms": ms, "snapshot": "false",
                "db": row.get::<String, _>("db"), "schema": self.schema, "table": "transactions",
                "txId": row.get::<i64, _>("tx_id"), "lsn": row.get::<i64, _>("lsn"),
            },
        })
    }

    /// A record that is no change of the table.
    pub(super) fn scribble(&mut self, id: i64) {
        let place = partition_of(id);
        self.bad.push((i64::try_from(place).unwrap(), self.ends[place]));
        self.send(id, &json!({ "id": id }).to_string(), Some("{\"after\": "));
    }

    fn send(&mut self, id: i64, key: &str, value: Option<&str>) {
        let partition = partition_of(id);
        self.held.push((partition, key.to_owned(), value.map(str::to_owned)));
        self.ends[partition] += 1;
    }

    /// Brings what was written to Kafka, without waiting for it.
    pub(super) fn tell(&mut self) {
        for (partition, key, value) in std::mem::take(&mut self.held) {
            let mut record = BaseRecord::to(&self.topic).partition(i32::try_from(partition).unwrap()).key(&key);
            if let Some(value) = &value {
                record = record.payload(value);
            }
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
            self.producer.poll(Duration::ZERO); // each serves one batch of reports, without which the queue fills up
        }
    }

    /// The database's clock, and so many milliseconds more, as text.
    pub(super) fn clock(&mut self, more_ms: i64) -> String {
        let sql = format!("SELECT (clock_timestamp() + interval '{more_ms} ms')::text AS at");
        self.rows(&sql)[0].get("at")
    }
}

fn partition_of(id: i64) -> usize {
    usize::try_from(id).unwrap() % PARTITIONS
}
