//! Fills a table and a topic with the same transactions: what a benchmark of `tripline run` reads and what
//! it confirms against.
//!
//! ```text
//! cargo run --release -p tripline-bench --bin fill-topic -- URL BOOTSTRAP TOPIC COUNT [USERS]
//! ```
//!
//! The table `streaming.transactions` of the database at URL is created again with COUNT rows of the last six days over
//! USERS users (100,000). About one user in a hundred is over 3,000.00. Then one plain Debezium create event for each
//! row is written to TOPIC, keyed by the primary key, in the order of the rows.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::time::Duration;

use futures_util::TryStreamExt;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, bootstrap, topic, count, rest @ ..] = args.as_slice() else {
        return Err("usage: fill-topic URL BOOTSTRAP TOPIC COUNT [USERS]".into());
    };
    let count: u32 = count.parse()?;
    let users: u32 = rest.first().map_or(Ok(100_000), |users| users.parse())?;
    let mut connection = PgConnection::connect(url).await?;
    let insert = format!(
        "insert into streaming.transactions (user_id, amount, \"timestamp\", merchant, status) \
         select 10000000 + floor({users} * random() * random())::bigint, \
                round((case when random() < 0.04 then -1 else 1 end * exp(3.7 + 0.9 * \
                    sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())))::numeric, 2), \
                now() - interval '6 days' * (1 - g / {count}.0), 'Merchant ' || g % 500, \
                (array['completed', 'pending', 'refunded'])[1 + g % 3] \
         from generate_series(1, {count}) g"
    );
    for statement in [
        "create schema if not exists streaming",
        "drop table if exists streaming.transactions",
        "create table streaming.transactions (id bigserial primary key, user_id bigint not null, \
         amount numeric(12,2) not null, \"timestamp\" timestamptz not null, merchant text, status text)",
        "select setseed(0.5)",
        insert.as_str(),
        "create index on streaming.transactions (user_id, \"timestamp\") include (amount)",
        "vacuum analyze streaming.transactions",
    ] {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await?;
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let events = "select id::text, json_build_object('before', null, 'after', json_build_object('id', id, \
        'user_id', user_id, 'amount', amount::text, 'timestamp', \
        to_char(\"timestamp\" at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'merchant', merchant, \
        'status', status), 'source', json_build_object('version', '3.7.0.Final', 'connector', 'postgresql', \
        'name', 'postgres', 'ts_ms', 1795311413880 + id, 'snapshot', 'false', 'db', current_database(), 'sequence', \
        '[\"22270736\",\"22270736\"]', 'ts_us', (1795311413880 + id) * 1000, 'ts_ns', (1795311413880 + id) * 1000000, \
        'schema', 'streaming', 'table', 'transactions', 'txId', 700 + id, 'lsn', 22270736 + id * 120, 'xmin', null, \
        'origin', null, 'origin_lsn', null), 'transaction', null, 'op', 'c', 'ts_ms', 1795311413880 + id, \
        'ts_us', (1795311413880 + id) * 1000, 'ts_ns', (1795311413880 + id) * 1000000)::text \
        from streaming.transactions order by id";
    let mut rows = sqlx::query(events).fetch(&mut connection);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        // Compact, as the converter writes it.
        let value = row.try_get::<String, _>(1)?.replace("\" : ", "\":").replace(", \"", ",\"");
        bytes += value.len();
        let key = format!("{{\"id\":{}}}", row.try_get::<String, _>(0)?);
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((_, unsent)) = producer.send(record) {
            record = unsent; // the queue is full
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    println!("{count} events, {} bytes each", bytes / usize::try_from(count)?.max(1));
    Ok(())
}
