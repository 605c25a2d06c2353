//! Rules that go by NOW(), on a clock of the test: at every instant what memory has open, by what it scheduled itself, is what
//! Postgres answers to the rule's own text with that instant in place of NOW().

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tripline::confirm::postgres::catalog;
use tripline::model::zone::Zone;
use tripline::model::{Key, Timestamp, Value};
use tripline::postgres::zones::{Wanted, Zones};
use tripline::rule::compile::{compile, wanted};
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::rule::parse::parse;
use tripline::rule::{Query, Time};
use tripline::window::Window;

use super::grammar::{TABLE, timed_rule};
use super::{changes, client, key_columns, rows_sql, setting, texts, with_zones};
use crate::harness::{Database, Dice, Stack};

const RULES: usize = 40;
const ROWS: u64 = 24;
const DAY: i64 = 86_400_000_000;
/// Around changes of the clocks, and ends of months and years.
const BASES: [&str; 9] = [
    "2026-03-28T12:00:00Z",
    "2026-10-24T20:00:00Z",
    "2026-03-30T22:00:00Z",
    "2026-11-29T10:00:00Z",
    "2026-12-31T21:00:00Z",
    "2028-02-28T23:00:00Z",
    "2026-04-04T14:00:00Z",
    "2018-11-03T02:00:00Z",
    "2026-10-24T23:50:00Z",
];
const SESSIONS: [&str; 4] = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"];

struct Watched {
    sql: String,
    query: Query,
    window: Window,
    /// The last evaluation of each group.
    said: BTreeMap<Key, Evaluation>,
}

struct World {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
    sessions: Vec<Arc<Zone>>,
    rules: Vec<Watched>,
    wanted: Vec<usize>,
    rows: BTreeMap<Key, Box<[Value]>>,
    lsn: u64,
    now: Timestamp,
    /// Comparisons of a rule at an instant, groups that were open in them, groups that memory could not tell of, and errors.
    counts: (u64, u64, u64, u64),
}

/// The rule at an instant.
fn at(sql: &str, now: Timestamp) -> String {
    let instant = format!("('{}'::timestamptz)", now.rfc3339());
    let mut sql = sql.replace("CURRENT_DATE", &format!("({instant}::date)"));
    sql = sql.replace("LOCALTIMESTAMP", &format!("({instant}::timestamp)"));
    for name in ["CURRENT_TIMESTAMP", "statement_timestamp()", "NOW()", "now()"] {
        sql = sql.replace(name, &instant);
    }
    sql
}

impl World {
    fn new(database: &Database, dice: &mut Dice) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = Stack::get().url(&database.name);
        let mut connection = runtime.block_on(PgConnection::connect(&url)).unwrap();
        let mut run = |sql: &str| {
            runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection)).unwrap();
        };
        run("DROP SCHEMA IF EXISTS streaming CASCADE");
        run(TABLE);
        let zones = Zones::new(
            client(&url),
            SESSIONS.iter().map(|zone| Wanted::Named((*zone).to_owned(), "the test".to_owned())).collect(),
        );
        let sessions = runtime.block_on(zones.find()).unwrap();
        let session = Arc::clone(&sessions[usize::try_from(dice.below(4)).unwrap()]);
        run(&format!("SET timezone = '{}'", session.name()));
        let table = runtime.block_on(catalog::table(&mut connection, "streaming", "t")).unwrap();
        let mut compiled = Vec::new();
        while compiled.len() < RULES {
            let sql = timed_rule(dice);
            let parsed = parse(&sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
            let mut query = compile(&parsed, &table).unwrap_or_else(|error| panic!("{error}: {sql}"));
            let same = runtime.block_on(catalog::compare(&mut connection, &sql, &query, &parsed.spelling));
            same.unwrap_or_else(|error| panic!("{error}: {sql}"));
            query.zone = Arc::clone(&session);
            runtime.block_on(with_zones(&mut query, &zones));
            compiled.push((sql, query));
        }
        let wanted = wanted(&compiled.iter().map(|(_, query)| query).collect::<Vec<_>>());
        let rules = compiled.into_iter().map(|(sql, query)| {
            let window = Window::new(Program::new(&query, &wanted).unwrap(), Time::Processing);
            Watched { sql, query, window, said: BTreeMap::new() }
        });
        let base = Timestamp::parse(BASES[usize::try_from(dice.below(9)).unwrap()]).unwrap();
        let (rules, rows) = (rules.collect(), BTreeMap::new());
        Self { runtime, connection, sessions, rules, wanted, rows, lsn: 0, now: base, counts: (0, 0, 0, 0) }
    }

    fn fetch(&mut self, sql: &str) -> Vec<String> {
        self.try_fetch(sql).unwrap_or_else(|| panic!("an error of the data: {sql}"))
    }

    /// `None`: the text is an error for what the table holds, such as the difference of two infinities.
    fn try_fetch(&mut self, sql: &str) -> Option<Vec<String>> {
        let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned()));
        match self.runtime.block_on(query.fetch_all(&mut self.connection)) {
            Ok(rows) => Some(rows),
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("22")) => None,
            Err(error) => panic!("{error}: {sql}"),
        }
    }

    /// A time near to now, often a round one.
    fn time(&self, dice: &mut Dice) -> String {
        if dice.one_in(12) {
            return "NULL".to_owned();
        }
        if dice.one_in(40) {
            return ["'infinity'", "'-infinity'"][usize::try_from(dice.below(2)).unwrap()].to_owned();
        }
        let spread = [DAY / 12, 2 * DAY, 40 * DAY][usize::try_from(dice.below(3)).unwrap()];
        let at = self.now.0 + dice.between(-spread, spread / 3);
        let round = [1, 1, 3_600_000_000, DAY][usize::try_from(dice.below(4)).unwrap()];
        format!("'{}'", Timestamp(at - at.rem_euclid(round)).rfc3339())
    }

    fn change(&mut self, dice: &mut Dice) {
        let mut statements = String::new();
        for _ in 0..=dice.below(4) {
            let id = dice.below(ROWS);
            let (created, local, day) = (self.time(dice), self.time(dice), self.time(dice));
            let number = |dice: &mut Dice, below: u64| {
                if dice.one_in(12) { "NULL".to_owned() } else { dice.below(below).to_string() }
            };
            let (user, card, amount) = (number(dice, 3), number(dice, 2), number(dice, 300));
            statements.push_str(&match dice.below(6) {
                0 => format!("DELETE FROM streaming.t WHERE id = {id};"),
                _ => format!(
                    "INSERT INTO streaming.t (id, user_id, card_id, amount, created_at, local_at, day) \
                     VALUES ({id}, {user}, {card}, {amount}, {created}, {local}, {day}) ON CONFLICT (id) DO UPDATE SET \
                     user_id = excluded.user_id, amount = excluded.amount, created_at = excluded.created_at, \
                     local_at = excluded.local_at, day = excluded.day;"
                ),
            });
        }
        let run = sqlx::raw_sql(AssertSqlSafe(statements));
        self.runtime.block_on(run.execute(&mut self.connection)).unwrap();
        self.read();
    }

    /// Passes the table's changes to every window.
    fn read(&mut self) {
        let query = self.rules[0].query.clone();
        let rows = self.fetch(&rows_sql(&query, &self.wanted));
        for (change, position) in changes(&query, &self.wanted, &rows, &mut self.rows, &mut self.lsn) {
            for rule in &mut self.rules {
                rule.window.apply(&change, position, self.now);
            }
        }
    }

    /// Time goes on: to where something is scheduled, shortly before or after, or anywhere.
    fn pass(&mut self, dice: &mut Dice) {
        let edges: Vec<i64> = self.rules.iter().filter_map(|rule| rule.window.next_edge()).map(|at| at.0).collect();
        let near = edges.iter().copied().filter(|at| *at > self.now.0).min();
        let far = edges.get(usize::try_from(dice.below(edges.len().max(1) as u64)).unwrap()).copied();
        let to = match dice.below(8) {
            0 => near,
            1 => near.map(|at| at - 1),
            2 => near.map(|at| at + 1),
            3 => far.map(|at| at + dice.between(-1, 1)),
            4 => Some(self.now.0 + dice.between(1, DAY / 24)),
            5 => Some(self.now.0 + dice.between(1, 3 * DAY)),
            6 => Some(self.now.0 - self.now.0.rem_euclid(DAY / 24) + DAY / 24),
            _ => Some(self.now.0 + 1),
        };
        self.now = Timestamp(to.unwrap_or(0).clamp(self.now.0 + 1, self.now.0 + 45 * DAY));
    }

    /// The session has another time zone: rows that are not held are loaded, and every key is judged again.
    fn change_zone(&mut self, dice: &mut Dice) {
        let zone = Arc::clone(&self.sessions[usize::try_from(dice.below(4)).unwrap()]);
        let set = sqlx::raw_sql(AssertSqlSafe(format!("SET timezone = '{}'", zone.name())));
        self.runtime.block_on(set.execute(&mut self.connection)).unwrap();
        for Watched { query, window, said, .. } in &mut self.rules {
            query.zone = Arc::clone(&zone);
            window.exchange_program(Program::new(query, &self.wanted).unwrap());
            self.rows.iter().for_each(|(pk, row)| window.load(pk, row, self.now));
            let judged = window.evaluate_all(self.now);
            *said = judged.into_iter().map(|named| (named.key, named.evaluation)).collect();
        }
    }

    fn look(&mut self, seed: u64) {
        for place in 0..self.rules.len() {
            let now = self.now;
            let Watched { sql, query, window, said } = &mut self.rules[place];
            let transitions = window.evaluate_touched(now).into_iter().chain(window.expire(now));
            said.extend(transitions.map(|named| (named.key, named.evaluation)));
            let of = |wanted: Evaluation| -> BTreeSet<Vec<Option<String>>> {
                let keys = said.iter().filter(|(_, evaluation)| **evaluation == wanted);
                keys.map(|(key, _)| texts(query, key)).collect()
            };
            let (open, unknown) = (of(Evaluation::Holds), of(Evaluation::Unknown));
            let whole = format!("SELECT json_build_array({})::text FROM ({}) AS q", key_columns(query), at(sql, now));
            let sql = sql.clone();
            let Some(answer) = self.try_fetch(&whole) else {
                self.counts.3 += 1;
                continue;
            };
            let mut wanted: BTreeSet<Vec<Option<String>>> =
                answer.iter().map(|key| serde_json::from_str(key).unwrap()).collect();
            wanted.retain(|key| !unknown.contains(key));
            self.counts.0 += 1;
            self.counts.1 += wanted.len() as u64;
            self.counts.2 += unknown.len() as u64;
            assert_eq!(open, wanted, "memory, and Postgres, at {now} (TIMES_SEED={seed}): {sql}\nrows {:?}", self.rows);
            let window = &mut self.rules[place].window;
            for key in window.top(100).iter().map(|standing| standing.key.clone()).collect::<Vec<_>>() {
                assert!(window.fingerprint(&key).is_sound, "the aggregates are those of the rows: {key:?}: {sql}");
            }
        }
    }
}

fn on_a_clock(first: u64, seeds: u64, steps: u64) {
    let (first, seeds) = match std::env::var("TIMES_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (first, setting("TIMES_SEEDS", seeds)),
    };
    let steps = setting("TIMES_STEPS", steps);
    let database = Database::empty("rules_times");
    let mut counts = (0, 0, 0, 0);
    for seed in first..first + seeds {
        eprintln!("TIMES_SEED={seed}");
        let mut dice = Dice(seed);
        let mut world = World::new(&database, &mut dice);
        for _ in 0..steps {
            match dice.below(30) {
                0 => world.change_zone(&mut dice),
                1..=9 => world.change(&mut dice),
                _ => world.pass(&mut dice),
            }
            world.look(seed);
        }
        let (looks, open, unknown, errors) = world.counts;
        counts = (counts.0 + looks, counts.1 + open, counts.2 + unknown, counts.3 + errors);
    }
    let (looks, open, unknown, errors) = counts;
    eprintln!(
        "{looks} looks at a rule: {open} groups open, {unknown} of which memory could not tell; {errors} an error in Postgres"
    );
    assert!(open > 20 * unknown && open > looks / 10, "{open} groups open in {looks} looks, {unknown} unknown");
    assert!(looks > 20 * errors, "{errors} errors beside {looks} looks");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rules_on_a_clock() {
    on_a_clock(1, 4, 60);
}

/// `TIMES_SEEDS` and `TIMES_SEED` go on where another run ended.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rules_on_a_clock() {
    on_a_clock(1_000, 60, 120);
}
