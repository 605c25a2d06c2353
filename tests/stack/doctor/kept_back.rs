//! Parts of a table that are withheld: by its publication, its own structure, the role's rights and the connector's
//! settings.

use super::*;
use crate::harness::{psql, variable};

fn server_version() -> u32 {
    psql("postgres", "SHOW server_version_num").remove(0).remove(0).parse().unwrap()
}

/// The statements of a fix that begins with them.
fn statements(fix: &str) -> &str {
    fix.split("; then").next().unwrap()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_the_publication_and_the_table() {
    if server_version() < 150_000 {
        return; // row filters and lists of columns came with 15
    }
    let t = table("kept", &[]);
    let job = job(&t);
    let publish =
        |what: &str| t.sql(&format!("ALTER PUBLICATION {} SET TABLE streaming.transactions {what}", t.database.name));
    publish("WHERE (amount > 5)");
    let said = problems(&job, 5, &["publication.filter"]);
    t.sql(statements(&said.fix("publication.filter", "WHERE (amount > (5)::numeric)")));
    problems(&job, 0, &[]);
    publish("(id, user_id, \"timestamp\", merchant)");
    let said = problems(&job, 2, &["publication.columns"]);
    t.sql(statements(&said.fix("publication.columns", "leaves out what is needed: amount")));
    problems(&job, 0, &[]);
    publish("(id, user_id, \"timestamp\", amount)"); // all that the rule needs
    problems(&job, 0, &[]);

    t.sql("CREATE TABLE streaming.child () INHERITS (streaming.transactions)");
    let said = problems(&job, 5, &["table.children"]);
    t.sql(said.fix("table.children", "INHERITS: streaming.child").split(", if").next().unwrap());
    problems(&job, 0, &[]);

    t.sql("ALTER TABLE streaming.transactions ADD twice numeric(12,2) GENERATED ALWAYS AS (amount * 2) STORED");
    problems(&job, 0, &[]); // no rule needs it
    let generated = Job { sql: job.sql.replace("ABS(amount)", "ABS(twice)"), ..job.clone() };
    let said = problems(&generated, 2, &["table.generated", "records"]);
    let fix = said.fix("table.generated", "a rule needs twice, which Postgres generates");
    assert!(fix.contains("ALTER COLUMN \"twice\" DROP EXPRESSION"), "{fix}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_row_level_security() {
    let role = Role::new("doctor_rls");
    let t = table("rls", &[]);
    t.sql(&format!(
        "GRANT USAGE ON SCHEMA streaming TO {0}; GRANT SELECT ON streaming.transactions TO {0};
         ALTER TABLE streaming.transactions ENABLE ROW LEVEL SECURITY",
        role.0
    ));
    let job = job(&t);
    problems(&job, 0, &[]); // a superuser sees everything
    let as_role = Job { url: role.url_with("hunter2", &t.database.name), ..job };
    let said = problems(&as_role, 4, &["table.row-security"]);
    t.sql(&said.fix("table.row-security", &format!("is active for role {}", role.0)));
    problems(&as_role, 0, &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_partitions() {
    let database = Database::new("dr_leaves");
    database.sql(
        "DROP TABLE streaming.transactions;
         CREATE TABLE streaming.transactions (
             id bigint, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
             \"timestamp\" timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, \"timestamp\")
         ) PARTITION BY RANGE (\"timestamp\");
         CREATE TABLE streaming.leaf PARTITION OF streaming.transactions DEFAULT",
    );
    index(&database);
    let t = Table::of(database, &[("table.include.list", "streaming.*")]);
    let job = job(&t);
    t.insert(&[(1, 101, "5")]);
    let said = problems(&job, 2, &["topic", "publication.root"]);
    let fix = said.fix("publication.root", "publish_via_partition_root = false");
    let leaf = Job {
        sql: job.sql.replace("streaming.transactions", "streaming.leaf"),
        topic: t.topic().replace("transactions", "leaf"),
        ..job.clone()
    };
    wait_for("the row is in the leaf's topic", || (kafka::end_of(&leaf.topic) > 0).then_some(()));
    problems(&leaf, 0, &[]);
    t.sql(statements(&fix));
    problems(&job, 2, &["topic"]);
    let said = problems(&leaf, 2, &["publication.root"]);
    let fix = said.fix("publication.root", "streaming.leaf is a partition of streaming.transactions");
    assert!(fix.contains("FROM streaming.transactions in the rule"), "{fix}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_the_connector() {
    let settings = [
        ("column.exclude.list", "streaming\\.transactions\\.amount"),
        ("column.truncate.to.3.chars", ".*\\.merchant"),
        ("column.mask.hash.SHA-256.with.salt.hunter2", "streaming.transactions.status"),
        ("unavailable.value.placeholder", "__GONE__"),
        ("snapshot.mode", "no_data"),
    ];
    let t = table("kept_connector", &settings);
    let by = |column: &str| {
        let sql = job(&t).sql.replace("SELECT user_id", &format!("SELECT {column}"));
        Job {
            sql: sql.replace("GROUP BY user_id", &format!("GROUP BY {column}")),
            source: "connector_keeps_nulls = true".to_owned(),
            ..job(&t)
        }
    };
    let said = problems(&by("merchant"), 2, &["columns", "placeholder", "records"]);
    assert!(said.of_grade("warning").contains("snapshot"), "{}", said.everything);
    assert!(said.fix("snapshot", "snapshot.mode=no_data").contains("incremental snapshot"));
    assert!(said.fix("columns", "column.exclude.list leaves out").contains("del(.\"column.exclude.list\")"));
    assert!(said.fix("columns", "column.truncate.to.3.chars cuts what a rule needs: merchant").contains("del("));
    assert!(
        said.fix("placeholder", "would be taken for that text")
            .contains("unavailable_value_placeholder = \"__GONE__\"")
    );
    // Its salt, which is never shown, is in the name of the setting.
    let said = problems(&by("status"), 2, &["columns", "placeholder", "records"]);
    assert!(said.fix("columns", "column.mask.hash.SHA-256 masks what a rule needs: status").contains("startswith("));
}

/// Names that Kafka does not accept, and a topic that the connector does not write to.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn names_of_topics() {
    // Debezium 2 reads names that are not ASCII wrong.
    let (name, written) = if variable("STACK_DEBEZIUM_VERSION").starts_with("2.") {
        ("My Table", "My_Table")
    } else {
        ("My Täble", "My_T_ble")
    };
    let quoted = format!("\"Odd Schema\".\"{name}\"");
    let database = Database::new("dr_names");
    database.sql(&format!(
        "CREATE SCHEMA \"Odd Schema\";
         CREATE TABLE {quoted} (
             id bigint PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
             \"timestamp\" timestamptz NOT NULL DEFAULT now());
         CREATE INDEX ON {quoted} (user_id, \"timestamp\") INCLUDE (amount)"
    ));
    let t = Table::of(database, &[("table.include.list", &format!("Odd Schema.{name}"))]);
    t.sql(&format!("INSERT INTO {quoted} (id, user_id, amount) VALUES (1, 101, 3500)"));
    let topic = t.topic().replace("streaming.transactions", &format!("Odd_Schema.{written}"));
    wait_for("the row is in the topic", || (kafka::end_of(&topic) > 0).then_some(()));
    let odd = Job { sql: job(&t).sql.replace("streaming.transactions", &quoted), topic: topic.clone(), ..job(&t) };
    problems(&odd, 0, &[]);
    let elsewhere = Job { topic: format!("other.{topic}"), ..odd.clone() };
    let said = problems(&elsewhere, 2, &["topic", "connector"]);
    assert!(said.fix("connector", "no connector writes").contains(&format!("source.topic = \"{topic}\"")));
    odd.run().read(1).fired([101]);

    let view = Job { sql: job(&t).sql.replace("streaming.transactions", "streaming.seen"), ..job(&t) };
    t.sql("CREATE VIEW streaming.seen AS SELECT * FROM streaming.transactions");
    let said = ask(&view);
    assert_eq!(said.code, Some(2), "{}", said.everything);
    assert!(said.fix("table", "streaming.seen is a view").contains("correct FROM"));
}
