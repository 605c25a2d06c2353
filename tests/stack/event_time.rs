//! Confirmed rules under event time: a backlog raises the alerts that a window function of SQL gives, in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use crate::harness::{Connector, Database, Ended, Job, kafka};

const RULE: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(amount) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '30 days'
GROUP BY user_id
HAVING SUM(amount) > 150
";

/// The customers over the threshold on any day, and how many purchases there are.
fn oracle(database: &Database) -> (BTreeSet<i64>, i64) {
    let rows = database.sql(
        "SELECT DISTINCT user_id FROM (
             SELECT user_id, sum(amount) OVER (
                 PARTITION BY user_id ORDER BY \"timestamp\" RANGE BETWEEN '30 days' PRECEDING AND CURRENT ROW) AS total
             FROM streaming.transactions) AS purchases
         WHERE total > 150",
    );
    let customers = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    (customers, database.sql("SELECT count(*) FROM streaming.transactions")[0][0].parse().unwrap())
}

fn job(folder: &Path, database: &Database, connector: &Connector, version: &str) -> Job {
    let group = format!("{}-{version}", database.name);
    let mut job = Job::new(folder, &database.name, &group, &connector.topic);
    job.sql = RULE.to_owned();
    job.rule = "time = \"event\"".to_owned();
    job
}

/// Per customer: status and NOW() of each alert, in order.
type Told = BTreeMap<i64, Vec<(String, String)>>;

/// Each customer's episodes fire and resolve alternately, in the order of its days, and the database bears each out.
fn told(run: &Ended) -> Told {
    let mut told = Told::new();
    for alert in run.alerts.iter().map(crate::harness::Record::json) {
        let text = |value: &Json| value.as_str().unwrap_or_else(|| panic!("{alert}")).to_owned();
        let mine = told.entry(alert["key"]["user_id"].as_i64().unwrap()).or_default();
        let (status, at) = (text(&alert["status"]), text(&alert["window"]["to"]));
        assert_eq!(status, if mine.len().is_multiple_of(2) { "firing" } else { "resolved" }, "{alert}");
        assert!(mine.last().is_none_or(|(_, last)| *last <= at), "{alert}");
        assert_eq!(alert["confirmation"]["as_of"], alert["window"]["to"], "{alert}");
        let total: f64 = alert["database"]["total"].as_str().map_or(0.0, |total| total.parse().unwrap());
        assert_eq!(total > 150.0, status == "firing", "{alert}");
        // Time alone does not pass under event time, but a later purchase moves it on.
        assert_eq!(alert.get("reason").and_then(Json::as_str), (status == "resolved").then_some("time"), "{alert}");
        mine.push((status, at));
    }
    told
}

/// Runs so many groups over the whole topic: each tells the same, of exactly these customers.
fn check(database: &Database, connector: &Connector, runs: usize) -> usize {
    let (want, purchases) = oracle(database);
    kafka::wait_for_end(&connector.topic, purchases);
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<Told> = None;
    for run in 1..=runs {
        let began = std::time::Instant::now();
        let ended = job(folder.path(), database, connector, &format!("v{run}")).run();
        ended.read(u64::try_from(purchases).unwrap());
        let told = told(&ended);
        eprintln!(
            "{purchases} purchases: {} customers, {} alerts in {:?}: {:?}",
            told.len(),
            ended.alerts.len(),
            began.elapsed(),
            ended.counts
        );
        assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), want, "run {run}");
        assert!(*first.get_or_insert_with(|| told.clone()) == told, "run {run} tells otherwise than the first");
    }
    want.len()
}

/// Half of the purchases come by the connector's snapshot, the other half in one transaction after it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_backlog_of_purchases() {
    let database = Database::new("event_time");
    let fill = |ids: &str| {
        database.sql(&format!(
            "SELECT setseed(0.42);
             INSERT INTO streaming.transactions (id, user_id, amount, \"timestamp\")
             SELECT n, (n * 7919) % 400, (5 + random() ^ 3 * 120)::numeric(12,2),
                    timestamptz '1997-01-01' + n * interval '1 hour' + (n * 31 % 7) * interval '1 day'
             FROM generate_series({ids}) AS n"
        ))
    };
    fill("1, 3000");
    let connector = Connector::start(&database, "", &[]);
    fill("3001, 6000");
    let customers = check(&database, &connector, 2);
    assert!((50..380).contains(&customers), "{customers} of 400");
}

/// `CDNOW_master.txt`, from the path in `TRIPLINE_TEST_CDNOW`, or out of the package `lifetimes` of PyPI.
fn purchases(folder: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("TRIPLINE_TEST_CDNOW") {
        return path.into();
    }
    let run = |arguments: &[&str]| {
        let done = Command::new("python3").args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "python3 {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run(&["-m", "pip", "download", "-q", "--no-deps", "lifetimes==0.11.3"]);
    let wheel = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    run(&["-m", "zipfile", "-e", wheel.to_str().unwrap(), "."]);
    folder.join("lifetimes/datasets/CDNOW_master.txt")
}

/// 69,659 real purchases: customer, date, number of CDs, dollars.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_real_purchases() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(purchases(folder.path())).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let [customer, date, _, dollars] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        format!("{}\t{date}\t{dollars}\n", customer.parse::<i64>().unwrap())
    });
    let file = folder.path().join("purchases.tsv");
    std::fs::write(&file, rows.collect::<String>()).unwrap();
    let database = Database::new("cdnow");
    database.sql("SET timezone = 'UTC'; ALTER TABLE streaming.transactions ALTER \"timestamp\" DROP DEFAULT");
    let copy = format!("\\copy streaming.transactions (user_id, \"timestamp\", amount) FROM '{}'", file.display());
    database.sql(&copy);
    let connector = Connector::start(&database, "", &[]);
    assert_eq!(check(&database, &connector, 5), 1_463);
}
