//! Rules that Postgres alone evaluates: what it cannot evaluate of some keys, and what is refused at start.

use std::collections::BTreeSet;

use super::shapes::text;
use crate::harness::{Record, Table, kafka, wait_for};

/// A key that the query is an error for, and one that it returns two rows for, hold up nobody else.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_key_that_fails_fails_alone() {
    let table = Table::new("any_sql_fails");
    let rule = |name: &str, settings: &str, sql: &str| {
        format!("[[rules]]\nname = \"{name}\"\n{settings}\nmax_delay_ms = 100\nsql = \"\"\"\n{sql}\"\"\"\n")
    };
    let mut job = table.job("v1");
    job.rule = rule(
        "quotient",
        "",
        "SELECT user_id, COUNT(*) AS n FROM streaming.transactions GROUP BY user_id
         HAVING STDDEV(amount) IS NULL AND 100 / (MAX(amount) - 7) > 1",
    ) + &rule(
        "two-rows",
        "key = [\"user_id\"]",
        "SELECT user_id, amount, COUNT(*) AS n FROM streaming.transactions GROUP BY user_id, amount
         HAVING VARIANCE(amount) IS NULL",
    );
    table.insert(&[(1, 1, "9"), (2, 2, "7"), (3, 3, "10"), (4, 4, "1"), (5, 4, "2"), (6, 5, "8")]);
    table.wait_in_kafka(6);
    let mut run = job.start();
    let fired = |rule: &str| -> BTreeSet<String> {
        let alerts = kafka::records(&job.alert_topic, 0);
        alerts
            .iter()
            .map(Record::json)
            .filter(|alert| alert["rule"] == rule)
            .map(|alert| text(&alert["key"]["user_id"]))
            .collect()
    };
    let all = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
    wait_for("the keys without an error have fired", || {
        (fired("quotient") == all(&["1", "3", "5"]) && fired("two-rows") == all(&["1", "2", "3", "5"])).then_some(())
    });
    run.wait_in_log("division by zero");
    run.wait_in_log(
        "the query returns several rows for one key; set the rule's key to the columns that tell them apart",
    );
    // The error is over once the data are.
    table.sql(
        "UPDATE streaming.transactions SET amount = 12 WHERE id = 2; DELETE FROM streaming.transactions WHERE id = 5",
    );
    wait_for("the others have fired", || {
        (fired("quotient").contains("2") && fired("two-rows").contains("4")).then_some(())
    });
    assert_eq!(run.terminate().code, Some(0));
}

/// SQL that Postgres cannot evaluate either, or whose answers would mean nothing, is rejected with advice.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_is_refused() {
    let table = Table::new("any_sql_refused");
    let job = table.job("v1");
    let check = |settings: &str, sql: &str, part: &str| {
        let mut job = job.clone();
        (job.sql, job.message) = (sql.to_owned(), "x".to_owned());
        job.rule = format!("{settings}\n");
        let ended = job.try_run();
        assert_eq!(ended.code, Some(2), "{sql}: {ended}");
        assert!(ended.everything().contains(part), "{sql}: no {part:?} in {ended}");
    };
    let outlier = "SELECT user_id FROM streaming.transactions GROUP BY user_id HAVING STDDEV(amount) > 5";
    check("evaluate = \"memory\"", outlier, "line 1, column 68: STDDEV(…) is not supported");
    check("time = \"event\"", outlier, "time = \"event\" and confirm = \"off\" need a rule that memory evaluates");
    check(
        "",
        "SELECT user_id FROM streaming.transactions GROUP BY user_id HAVING STDDEV(amount) > random()",
        "random may return something else at each call (VOLATILE)",
    );
    check(
        "",
        "SELECT user_id FROM streaming.transactions GROUP BY user_id HAVING STDDEV(nobody) > 5",
        "line 1, column 75: Postgres: column \"nobody\" does not exist",
    );
    let share = "SELECT user_id FROM streaming.transactions GROUP BY user_id \
                 HAVING SUM(amount) > 0.5 * (SELECT SUM(amount) FROM streaming.transactions)";
    check("evaluate = \"touched\"", share, "no column of transactions is shown to equal the key; leave evaluate out");
    check("key = [\"user\"]", share, "key: there is no output \"user\"; the outputs are user_id");
    check(
        "",
        "SELECT STDDEV(amount) AS s FROM streaming.transactions GROUP BY user_id",
        "GROUP BY has user_id, which is not selected",
    );
    check(
        "key = [\"s\"]",
        "SELECT STDDEV(amount) AS s FROM streaming.transactions",
        "the key \"s\" is of type numeric; a key is boolean",
    );
    let counted = "SELECT user_id, COUNT(*) FROM streaming.transactions GROUP BY user_id HAVING COUNT(*) > 5";
    check("evaluate = \"memory\"\nkey = [\"user_id\"]", counted, "key is for rules that Postgres evaluates");
    check("", &outlier.replace("transactions", "transactions TABLESAMPLE SYSTEM (10)"), "more than a table's name");
    check("", "SELECT user_id FROM streaming.transactions FOR UPDATE", "not supported");
}
