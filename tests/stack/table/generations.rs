//! One instance of a group writes at a time, and what makes an older table ready for that.

use std::borrow::Cow;
use std::pin::pin;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, SqlSafeStr};
use tripline::alert::Alert;
use tripline::failure::{CallError, Kind};
use tripline::postgres::options;
use tripline::sink::postgres::rights::{Found, rights};
use tripline::sink::postgres::{TableSink, migrations};

use super::{command, fails, job, lines, odd, out};
use crate::harness::{Database, Stack, Table, wait_for};

const FIRST: &str = include_str!("../../../migrations/0001_alerts.sql");

/// A database with the table, and no connector.
struct World {
    database: Database,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(test: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = Self { database: Database::new(test), runtime };
        world.runtime.block_on(async {
            let mut connection = world.connect().await;
            migrations::run(&mut connection).await.unwrap();
            assert!(matches!(rights(&mut connection).await.unwrap(), Found::Tables(_)));
        });
        world
    }

    async fn connect(&self) -> PgConnection {
        options(&Stack::get().url(&self.database.name)).unwrap().connect().await.unwrap()
    }

    fn sink(&self, group: &str) -> TableSink {
        TableSink::new(options(&Stack::get().url(&self.database.name)).unwrap(), group)
    }

    /// The last digits of the ids in the table.
    fn ids(&self) -> Vec<String> {
        self.database.sql("SELECT right(id::text, 2) FROM tripline.alerts ORDER BY id").concat()
    }

    /// Until a session of the database runs, or has last run, such a statement and is in this state, as
    /// `pg_stat_activity` tells it. Other tasks run meanwhile.
    async fn until(&self, statement: &str, state: &str) {
        let sql = format!(
            "SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()
             AND query ILIKE '%{statement}%' AND {state}",
            self.database.name
        );
        let (database, what) = (self.database.name.clone(), format!("{statement} is in state {state}"));
        let look = move || wait_for(&what, || (!crate::harness::psql(&database, &sql).is_empty()).then_some(()));
        tokio::task::spawn_blocking(look).await.unwrap();
    }
}

const WAITS: &str = "state = 'active' AND wait_event_type = 'Lock'";
const IDLE: &str = "state = 'idle in transaction'";

fn is_fenced(result: Result<(), CallError>, part: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind, Kind::Fenced, "{error}");
    assert!(error.problem.contains(part), "no {part:?} in {error}");
}

fn alerts(ids: &[u128]) -> Vec<Alert> {
    ids.iter().map(|id| odd(*id, "")).collect()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_newest_instance_writes() {
    let w = World::new("generations");
    w.runtime.block_on(async {
        let (mut older, mut newer, mut other) = (w.sink("g"), w.sink("g"), w.sink("G'"));
        is_fenced(older.write(&alerts(&[1])).await, "has not raised");
        older.fence().await.unwrap();
        older.write(&alerts(&[1])).await.unwrap();
        newer.fence().await.unwrap();
        is_fenced(older.write(&alerts(&[1, 2])).await, "another instance of group g has taken over: generation ");
        // Also the second time, and by a connection that has seen nothing of it.
        is_fenced(older.write(&alerts(&[2])).await, &format!(":{} at 20", std::process::id()));
        assert_eq!(w.ids(), ["01"]);
        newer.write(&alerts(&[1, 3])).await.unwrap();
        newer.write(&alerts(&[1, 3])).await.unwrap();
        assert_eq!(w.ids(), ["01", "03"]);
        // Each group by itself.
        other.fence().await.unwrap();
        other.write(&alerts(&[4])).await.unwrap();
        newer.write(&alerts(&[5])).await.unwrap();
        // The older one takes over again, as after a new start.
        older.fence().await.unwrap();
        older.write(&alerts(&[6])).await.unwrap();
        is_fenced(newer.write(&alerts(&[7])).await, "was raised by");
        assert_eq!(w.ids().join(" "), "01 03 04 05 06");
        w.database.sql("DELETE FROM tripline.generations");
        is_fenced(older.write(&alerts(&[8])).await, "the row of group g in tripline.generations is gone");
    });
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_instance_waits_for_a_transaction_that_is_under_way() {
    let w = World::new("generations_wait");
    w.runtime.block_on(async {
        let (mut older, mut newer) = (w.sink("g"), w.sink("g"));
        older.fence().await.unwrap();
        // The older one has looked at its generation, and its insert waits.
        let mut holder = w.connect().await;
        let mut lock = holder.begin().await.unwrap();
        sqlx::query("LOCK TABLE tripline.alerts IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let ids = alerts(&[1]);
        let release = async {
            w.until("insert into tripline.alerts", WAITS).await;
            let release = async {
                w.until("insert into tripline.generations", WAITS).await;
                lock.commit().await.unwrap();
            };
            tokio::join!(newer.fence(), release).0
        };
        let (written, raised) = tokio::join!(older.write(&ids), release);
        // It came first, so it is there; no other one comes.
        written.unwrap();
        raised.unwrap();
        is_fenced(older.write(&alerts(&[2])).await, "was raised by");
        newer.write(&alerts(&[3])).await.unwrap();
        assert_eq!(w.ids(), ["01", "03"]);

        // A session of anybody's.
        let mut held = holder.begin().await.unwrap();
        let look = "SELECT generation FROM tripline.generations FOR SHARE";
        sqlx::query(look).execute(&mut *held).await.unwrap();
        let release = async {
            w.until("insert into tripline.generations", WAITS).await;
            held.rollback().await.unwrap();
        };
        let (raised, ()) = tokio::join!(older.fence(), release);
        raised.unwrap();
        is_fenced(newer.write(&alerts(&[4])).await, "was raised by");
    });
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_stopped_instance_does_not_hold_up_another_for_ever() {
    let w = World::new("generations_stopped");
    w.runtime.block_on(async {
        let (mut older, mut newer) = (w.sink("g"), w.sink("g"));
        older.fence().await.unwrap();
        let mut holder = w.connect().await;
        let mut lock = holder.begin().await.unwrap();
        sqlx::query("LOCK TABLE tripline.alerts IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let ids = alerts(&[1, 2]);
        {
            let mut write = pin!(older.write(&ids));
            tokio::select! {
                done = &mut write => panic!("{done:?}"),
                () = w.until("insert into tripline.alerts", WAITS) => {}
            }
            // From here on nobody polls it, as in a stopped process: its rows are in, and its commit does not come.
            lock.commit().await.unwrap();
            w.until("insert into tripline.alerts", IDLE).await;
            newer.fence().await.unwrap();
            assert_eq!(w.ids(), [""; 0]);
            newer.write(&alerts(&[2, 3])).await.unwrap();
            // And it goes on.
            let lost = write.await.unwrap_err();
            assert_eq!(lost.kind, Kind::Unreachable, "{lost}");
        }
        is_fenced(older.write(&ids).await, "was raised by");
        assert_eq!(w.ids(), ["02", "03"]);
    });
}

/// The table as the first version of the program made it.
async fn first_version(connection: &mut PgConnection) {
    let alerts = Migration::new(1, Cow::Borrowed("alerts"), MigrationType::Simple, FIRST.into_sql_str(), false);
    let mut migrator = Migrator::with_migrations(vec![alerts]);
    migrator.create_schema("tripline");
    migrator.dangerous_set_table_name("tripline._sqlx_migrations");
    migrator.run(&mut *connection).await.unwrap();
    assert_eq!(rights(connection).await.unwrap(), Found::Older);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_table_of_the_first_version() {
    let t = Table::new("table_first");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = options(&Stack::get().url(&t.database.name)).unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        first_version(&mut connection).await;
        let mut sink = TableSink::new(options.clone(), "g");
        let refused = sink.fence().await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused, "{refused}");
        assert!(refused.problem.contains("tripline.generations") && refused.problem.contains("tripline migrate"));
    });
    t.sql(
        "INSERT INTO tripline.alerts VALUES ('00000000-0000-0000-0000-000000000001', 'g', 'l', 'r', 'v', 'firing',
             'info', '{\"user_id\": 7}', 'old', '{}', '{}', 'COUNT(*) > 1', NULL, now(), NULL, '{}', now())",
    );
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let by_hand = job(&t, "migrate = false\n");
    let run = by_hand.try_run();
    assert_eq!(run.code, Some(2), "{run}");
    let said = run.log.iter().find(|line| line.starts_with("error: ")).unwrap();
    assert!(said.contains("older version") && said.contains("run `tripline migrate`"), "{said}");
    let listed = command(&by_hand, &["alerts"]).output().unwrap();
    fails(&listed, 2, &["older version", "run `tripline migrate`"]);

    assert!(out(&by_hand, &["migrate"]).starts_with("applied migration 2 generations at postgres://"));
    by_hand.run().fired([101]);
    let found = lines(&out(&by_hand, &["alerts", "--all-groups", "--output", "json"]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[1]["message"], found[1].get("episode")), (&"old".into(), None));
    let raised = t.sql("SELECT \"group\", generation > 0, owner <> '', raised_at <= now() FROM tripline.generations");
    assert_eq!(raised, [[by_hand.group.as_str(), "t", "t", "t"]]);

    // The record's own, where it has one.
    runtime.block_on(async {
        let mut sink = TableSink::new(options, "g");
        sink.fence().await.unwrap();
        sink.write(&[odd(2, r#","episode":"12.0""#), odd(3, r#","episode":null"#)]).await.unwrap();
    });
    let told = t.sql("SELECT episode FROM tripline.alerts WHERE rule = 'r' ORDER BY id");
    assert_eq!(told, [[""], ["12.0"], [""]]);
    let listed = lines(&out(&by_hand, &["alerts", "--all-groups", "--output", "json", "--rule", "r"]));
    let episodes: Vec<_> = listed.iter().filter_map(|alert| alert.get("episode")).collect();
    assert_eq!(episodes, ["12.0"], "{listed:?}");
}
