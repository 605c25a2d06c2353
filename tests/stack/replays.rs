//! Records that come more than once, as after a crash of the connector.

use crate::harness::{Job, Record, Table, kafka};
use crate::truth::feed::wait_for_alerts;

#[test]
#[ignore = "needs the servers: scripts/test"]
fn duplicates_change_nothing() {
    let t = Table::new("duplicates");
    t.insert(&[(1, 101, "2000"), (2, 101, "1500"), (3, 102, "2000"), (4, 103, "9000"), (5, 104, "2500")]);
    t.sql("UPDATE streaming.transactions SET amount = 1000 WHERE id = 3");
    t.sql("DELETE FROM streaming.transactions WHERE id = 4");
    t.sql("UPDATE streaming.transactions SET id = 50 WHERE id = 5");
    t.wait_in_kafka(11);
    t.run("v1").read(11).fired([101]).total(101, 2, "3500.00");

    // All of them again, then the last five of them once more.
    let records = kafka::records(t.topic(), 0);
    kafka::produce(t.topic(), &records);
    kafka::produce(t.topic(), &records[6..]);
    t.run("v1").read(16).quiet();

    // The totals are what they were.
    t.insert(&[(6, 102, "2000.01"), (7, 103, "3000"), (8, 104, "500")]);
    t.wait_in_kafka(30);
    t.run("v1").read(3).fired([102]).total(102, 2, "3000.01");
    t.insert(&[(9, 103, "0.01"), (10, 104, "0.01")]);
    t.wait_in_kafka(32);
    let run = t.run("v1");
    run.read(2).fired([103, 104]).total(103, 2, "3000.01").total(104, 3, "3000.01");

    // A group that reads all of it from the beginning agrees.
    let run = t.run("v2");
    run.read(32).fired([101, 102, 103, 104]).resolved([]);
    run.total(101, 2, "3500.00").total(102, 2, "3000.01").total(103, 2, "3000.01").total(104, 3, "3000.01");
}

/// A crash after the transaction and before `commits/N`: the topic has the alerts, and the log gets them again as they
/// were.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_retry_tells_the_log_again_and_not_the_topic() {
    let t = Table::new("retry");
    t.insert(&[(1, 101, "3500"), (2, 102, "4000")]);
    t.wait_in_kafka(2);
    let first = t.run("v1");
    first.read(2).fired([101, 102]);
    let commits = t.job("v1").checkpoints.join(&t.job("v1").group).join("commits");
    let newest = std::fs::read_dir(&commits).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.max_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    std::fs::remove_file(newest.unwrap()).unwrap();
    let again = t.run("v1");
    assert_eq!(again.alerts, [], "{again}");
    assert_eq!(again.out, first.out);
    assert_eq!((again.count("read"), again.count("fired")), (0, 0));
    t.run("v1").read(0).quiet();
}

/// The folder is lost: the group's offsets and the topic are enough to go on.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_checkpoint_folder_is_lost() {
    let t = Table::new("folder_lost");
    t.insert(&[(1, 101, "2000"), (2, 102, "2000")]);
    t.wait_in_kafka(2);
    t.run("v1").read(2).quiet();
    let job = t.job("v1");
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    t.insert(&[(3, 101, "1500")]);
    t.wait_in_kafka(3);
    let run = t.run("v1");
    run.read(1).fired([101]).total(101, 2, "3500.00");
    assert_eq!(run.count("replayed"), 2, "{run}");
    t.run("v1").read(0).quiet();
}

/// Retention has removed the first records: windows are filled from the table, and no total is too low.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_cut() {
    let t = Table::new("cut");
    t.insert(&[(1, 101, "2000"), (2, 102, "2000"), (3, 103, "3500")]);
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 3");
    t.wait_in_kafka(4);
    t.run("v1").read(4).quiet();
    kafka::cut(t.topic(), 3);
    let job = t.job("v1");
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    t.insert(&[(4, 101, "1500")]);
    t.wait_in_kafka(5);
    t.run("v1").fired([101]).total(101, 2, "3500.00");
    t.insert(&[(5, 102, "1000.01")]);
    t.wait_in_kafka(6);
    t.run("v1").read(1).fired([102]).total(102, 2, "3000.01");
    t.run("v2").fired([101, 102]).resolved([]).total(101, 2, "3500.00").total(102, 2, "3000.01");
}

/// Windows that take long are read from the table in slices, while its rows move, come and go.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn windows_are_read_in_slices() {
    let t = Table::new("slices");
    t.insert(&[(1, 1, "1")]);
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount)
             SELECT n, n % 500, 10 FROM generate_series(2, 40000) AS n;
         SELECT setval('streaming.transactions_id_seq', 200000)",
    );
    t.wait_in_kafka(40_000);
    kafka::cut(t.topic(), 40_000);
    let job = Job {
        environment: vec![("TRIPLINE_OFF", "load-at-once".to_owned())],
        sql: "SELECT user_id, COUNT(*) AS transactions, SUM(amount) AS total FROM streaming.transactions
              GROUP BY user_id HAVING SUM(amount) > 1000000"
            .to_owned(),
        ..t.job("v1")
    };
    let mut run = job.start();
    run.wait_in_log("read in slices");
    let mut rounds = 0;
    while !run.log_now().contains("windows are filled from the table rows=") {
        rounds += 1;
        t.sql(&format!(
            "UPDATE streaming.transactions SET amount = amount + 1 WHERE id % 97 = {rounds} % 97;
             UPDATE streaming.transactions SET user_id = (user_id + 1) % 500 WHERE id % 89 = {rounds} % 89;
             UPDATE streaming.transactions SET id = id + 100000 WHERE id % 1013 = {rounds} AND id < 100000;
             DELETE FROM streaming.transactions WHERE id % 1009 = {rounds};
             INSERT INTO streaming.transactions (user_id, amount) SELECT n, 5 FROM generate_series(0, 450, 50) AS n"
        ));
    }
    assert!(rounds > 2, "written {rounds} times meanwhile");
    // What memory holds of each user shows once they are all over the threshold.
    t.sql("INSERT INTO streaming.transactions (user_id, amount) SELECT n, 1000000 FROM generate_series(0, 499) AS n");
    wait_for_alerts(&job, 500);
    let ended = run.terminate();
    ended.fired(0..500).resolved([]);
    assert!(!ended.everything().contains("drift"), "{ended}");
    for alert in ended.alerts.iter().map(Record::json) {
        assert_eq!(alert["stream"], alert["database"], "{alert}");
    }
}
