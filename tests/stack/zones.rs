//! Time zones: a rule means what it means in a plain session of our role in that database.
//!
//! - this file: which zone a rule is run in
//! - [`differential`]: memory's edges and instants against Postgres's, at random

mod differential;

use crate::harness::{Database, Ended, Job, Role, Table, wait_for};

const HOURLY: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '1 hour'
GROUP BY user_id
HAVING SUM(ABS(amount)) > 3000
";

/// Four rows of 1000 of a user, dated by the clock of a zone, so many hours ago.
fn buy(t: &Table, zone: &str, user: i64, hours: i64) {
    t.sql(&format!(
        "SET timezone = '{zone}';
         INSERT INTO streaming.transactions (user_id, amount, \"timestamp\")
         SELECT {user}, 1000, now()::timestamp - interval '{hours} hours' FROM generate_series(1, 4)"
    ));
}

/// The users of the rule by psql, in a session that names no zone.
fn users(t: &Table) -> Vec<i64> {
    let sql = format!("RESET timezone; {HOURLY}");
    // The harness names UTC for its own sessions.
    let zone = t.sql(
        "SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
         WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND setrole = 0
         AND setting ILIKE 'timezone=%'",
    );
    let zone = zone.first().map_or("UTC", |row| row[0].as_str());
    let sql = sql.replace("RESET timezone", &format!("SET timezone = '{zone}'"));
    let mut users: Vec<i64> = t.sql(&sql).iter().map(|row| row[0].parse().unwrap()).collect();
    users.sort_unstable();
    users
}

fn hourly(t: &Table, version: &str) -> Job {
    Job { sql: HOURLY.to_owned(), ..t.job(version) }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_timestamp_without_zone_is_of_the_zone_that_the_query_is_run_in() {
    let role = Role::new("zones");
    let t = Table::of(Database::with_time("zones", "timestamp"), &[]);
    let name = &t.database.name;
    let set = |zone: &str| t.sql(&format!("ALTER DATABASE {name} SET timezone = '{zone}'"));
    t.sql(&format!(
        "GRANT USAGE ON SCHEMA streaming TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA streaming TO {0}",
        role.0
    ));
    // Of now: user 1 in São Paulo, 2 in Tokyo, 3 in UTC. Users 11, 12 and 13 bought five hours ago.
    for (user, zone) in [(1, "America/Sao_Paulo"), (2, "Asia/Tokyo"), (3, "UTC")] {
        buy(&t, zone, user, 0);
        buy(&t, zone, user + 10, 5);
    }
    t.wait_in_kafka(24);
    // Rows of another zone may be dated in the future, as they are for psql.
    let check = |what: &str, zone: &str, run: &Ended, want: &[i64]| {
        run.fired(want.iter().copied());
        assert!(run.log.iter().any(|line| line.contains(zone)), "{what}: {zone} is not named: {run}");
    };
    set("America/Sao_Paulo");
    let sao_paulo = users(&t);
    assert!(sao_paulo.contains(&1) && !sao_paulo.contains(&11), "{sao_paulo:?}");
    check("database", "America/Sao_Paulo", &hourly(&t, "v1").run(), &sao_paulo);
    set("Asia/Tokyo");
    let tokyo = users(&t);
    assert_eq!(tokyo, [2], "nobody else has bought within the last hour of Tokyo's clocks");
    check("database", "Asia/Tokyo", &hourly(&t, "v2").run(), &tokyo);

    // What the role has set wins, and what it has set in this database wins over that.
    t.sql(&format!("ALTER ROLE {} SET timezone = 'America/Sao_Paulo'", role.0));
    let as_role = |version: &str| Job { url: role.url(name), ..hourly(&t, version) };
    check("role", "America/Sao_Paulo", &as_role("v3").run(), &sao_paulo);
    t.sql(&format!("ALTER ROLE {} IN DATABASE {name} SET timezone = 'Etc/UTC'", role.0));
    as_role("v4").run().fired([2, 3, 12]);

    // What is configured wins over both, and the rule's own setting over that of all.
    let all = ("TRIPLINE__POSTGRES__TIME_ZONE", "America/Sao_Paulo".to_owned());
    let of_all = Job { environment: vec![all.clone()], ..as_role("v5") };
    check("postgres.time_zone", "America/Sao_Paulo", &of_all.run(), &sao_paulo);
    let of_rule = |zone: &str, version: &str| Job {
        rule: format!("time_zone = \"{zone}\""),
        environment: vec![all.clone()],
        ..as_role(version)
    };
    check("the rule's", "Asia/Tokyo", &of_rule("asia/tokyo", "v6").run(), &tokyo);
    for (zone, version) in [("America/Sao_Paolo", "v7"), ("foo3", "v8")] {
        let wrong = of_rule(zone, version).try_run();
        assert_eq!(wrong.code, Some(2), "{wrong}");
        for part in ["weekly-spend", "time_zone", zone, "IANA"] {
            assert!(wrong.log.join("\n").contains(part), "{part}: {wrong}");
        }
    }
    // The same group, in another zone: its windows are made again, and who holds is who holds for psql.
    let again = hourly(&t, "v2");
    set("America/Sao_Paulo");
    let gone: Vec<i64> = tokyo.iter().copied().filter(|user| !sao_paulo.contains(user)).collect();
    let new: Vec<i64> = sao_paulo.iter().copied().filter(|user| !tokyo.contains(user)).collect();
    again.run().fired(new).resolved(gone);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_zone_while_it_runs() {
    let t = Table::of(Database::with_time("zone_moves", "timestamp"), &[]);
    let name = &t.database.name;
    buy(&t, "America/Sao_Paulo", 1, 0);
    buy(&t, "UTC", 2, 1);
    buy(&t, "America/Sao_Paulo", 3, 5);
    t.wait_in_kafka(12);
    let mut run = hourly(&t, "v1").start();
    run.wait_committed(12);
    // Three hours west, what UTC has forgotten is of now.
    t.sql(&format!("ALTER DATABASE {name} SET timezone = 'America/Sao_Paulo'"));
    run.wait_in_log("the time zone of the rule has changed");
    run.wait_for_line("User 1 ($4,000.00)");
    let fired = users(&t);
    assert_eq!(fired, [1, 2], "user 2 bought two hours ahead of São Paulo's clocks");
    run.wait_for_line("User 2 ($4,000.00)");
    // And on with the stream.
    buy(&t, "America/Sao_Paulo", 4, 0);
    run.wait_for_line("User 4 ($4,000.00)");
    t.sql(&format!("ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"));
    run.wait_for_line("Resolved: User 4 ($0.00)");
    wait_for("nobody is left in psql", || users(&t).is_empty().then_some(()));
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([1, 2, 4]).resolved([1, 2, 4]);
}

/// Days of a timestamptz: over a change of the clocks they have 23 or 25 hours.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn days_are_of_the_zone() {
    let t = Table::new("zone_days");
    // By the event clock, so that the change of the clocks is where the rows are: Berlin, 29 March 2026, 01:00 UTC.
    t.sql(
        "INSERT INTO streaming.transactions (user_id, amount, \"timestamp\") VALUES
         (1, 2000, '2026-03-28 10:30+00'), (1, 2000, '2026-03-29 10:00+00'),
         (2, 2000, '2026-03-28 11:30+00'), (2, 2000, '2026-03-29 10:00+00'),
         (3, 2000, '2026-10-24 10:30+00'), (3, 2000, '2026-10-25 11:00+00'),
         (4, 2000, '2026-10-24 09:30+00'), (4, 2000, '2026-10-25 11:00+00')",
    );
    t.wait_in_kafka(8);
    let daily = HOURLY.replace("1 hour", "1 day");
    let run = |zone: &str, version: &str| {
        let rule = format!("time = \"event\"\ntime_zone = \"{zone}\"");
        Job { sql: daily.clone(), rule, ..t.job(version) }.run()
    };
    run("UTC", "v1").fired([1, 2]);
    run("Europe/Berlin", "v2").fired([2, 3]);
}
