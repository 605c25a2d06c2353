//! The changes of a server's table in Kafka, as Debezium writes them, in the order and at the moment of a test's
//! choosing: what is under test is what becomes of them.

use crate::harness::{Job, Record, kafka, wait_for};

use super::server::Server;

/// A table of a server of its own, and the topic of its changes.
pub(crate) struct Feed {
    pub(crate) server: Server,
    pub(crate) topic: String,
}

impl Feed {
    pub(crate) fn new(test: &str, settings: &str) -> Self {
        Self { server: Server::new(settings), topic: format!("truth_{test}_{}", std::process::id()) }
    }

    /// A run's configuration. `lines` are more of `[postgres]`.
    pub(crate) fn job(&self, lines: &str) -> Job {
        let mut job = Job::new(self.server.folder(), &self.topic, &format!("{}-v1", self.topic), &self.topic);
        // The harness writes `url = "…"`, and nothing else below [postgres].
        job.url = format!("{}\"\n{lines}\n# \"", self.server.url());
        job
    }

    /// One row for each of these users, of this amount and of now, in one transaction. The stream knows nothing yet.
    pub(crate) fn insert(&self, users: std::ops::RangeInclusive<i64>, amount: &str) {
        let (first, last) = users.into_inner();
        self.server.sql(&format!(
            "INSERT INTO streaming.transactions (id, user_id, amount)
             SELECT n, n, {amount} FROM generate_series({first}, {last}) AS n"
        ));
    }

    /// The creation of the rows that a condition names, as they are now, each with the transaction that wrote it.
    pub(crate) fn records(&self, condition: &str) -> Vec<Record> {
        records(&self.server, "c", condition)
    }

    /// The same as updates.
    pub(crate) fn updates(&self, condition: &str) -> Vec<Record> {
        records(&self.server, "u", condition)
    }

    /// Into the topic.
    pub(crate) fn tell(&self, records: &[Record]) {
        kafka::produce(&self.topic, records);
    }

    /// The rows of these users are told as created.
    pub(crate) fn tell_users(&self, users: std::ops::RangeInclusive<i64>) {
        let (first, last) = users.into_inner();
        self.tell(&self.records(&format!("user_id BETWEEN {first} AND {last}")));
    }

    /// The deletion of a row, and its tombstone.
    pub(crate) fn deletion(&self, id: i64) -> Vec<Record> {
        let sql = format!(
            "SELECT json_build_object('id', {id}), json_build_object(
                 'before', json_build_object('id', {id}, 'user_id', 0, 'amount', '0.00', 'timestamp',
                                             '1970-01-01T00:00:00.000000Z', 'merchant', null, 'status', null),
                 'after', null, 'source', {SOURCE}, 'op', 'd', 'ts_ms', {NOW_MS}, 'transaction', null)
             FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296 - 1 AS tx) AS t"
        );
        let mut records = envelopes(&self.server, &sql);
        let key = records[0].key.clone();
        records.push(Record { key, value: None, headers: Vec::new() });
        records
    }
}

const NOW_MS: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const SOURCE: &str = "json_build_object(
    'version', '3.7.0.Final', 'connector', 'postgresql', 'name', 'truth',
    'ts_ms', (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'snapshot', 'false', 'db', current_database(),
    'schema', 'streaming', 'table', 'transactions', 'txId', tx, 'lsn', pg_current_wal_insert_lsn() - '0/0'::pg_lsn)";

fn records(server: &Server, op: &str, condition: &str) -> Vec<Record> {
    envelopes(server, &as_they_are(op, condition))
}

/// Key and value of a record for each row that a condition names.
pub(crate) fn as_they_are(op: &str, condition: &str) -> String {
    format!(
        "SELECT json_build_object('id', id), json_build_object(
             'before', null,
             'after', (to_jsonb(t) - 'tx') || jsonb_build_object(
                 'amount', amount::text, 'timestamp', to_char(\"timestamp\", 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')),
             'source', {SOURCE}, 'op', '{op}', 'ts_ms', {NOW_MS}, 'transaction', null)
         FROM (SELECT *, xmin::text::bigint AS tx FROM streaming.transactions) AS t WHERE {condition} ORDER BY id"
    )
}

fn envelopes(server: &Server, sql: &str) -> Vec<Record> {
    parsed(server.sql(sql))
}

/// Rows of key and value as records.
pub(crate) fn parsed(rows: Vec<Vec<String>>) -> Vec<Record> {
    let record = |row: Vec<String>| {
        let [key, value] = row.try_into().unwrap();
        Record { key: Some(key.into_bytes()), value: Some(value.into_bytes()), headers: Vec::new() }
    };
    rows.into_iter().map(record).collect()
}

/// Until the alert topic holds exactly so many records.
pub(crate) fn wait_for_alerts(job: &Job, alerts: i64) {
    wait_for(&format!("{alerts} alerts"), || {
        let told = i64::try_from(kafka::records(&job.alert_topic, 0).len()).unwrap();
        assert!(told <= alerts, "{told} alerts, more than {alerts}");
        (told == alerts).then_some(())
    });
}
