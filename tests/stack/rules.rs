//! Random rules over random histories. Memory's evaluation of every group equals Postgres's answer to the rule's own
//! text, to the digit, unless memory cannot evaluate it. The statement of a confirmation has the same answer.
//!
//! `RULES_SEED` replays a seed. `RULES_SEEDS` is the number of seeds. `RULES_LOOKS` is how often each history is
//! compared. 50 rules share a history.

mod any_sql;
mod grammar;
mod planted;
mod refused;
mod shapes;
mod times;
mod touched;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tripline::alert::key_texts;
use tripline::change::{Change, Op};
use tripline::confirm::Confirm as _;
use tripline::confirm::postgres::{PostgresConfirm, catalog};
use tripline::failure::CallError;
use tripline::model::{ColumnType, Key, Lsn, Position, Table, Timestamp, Value};
use tripline::postgres::zones::Zones;
use tripline::postgres::{Database as Client, Session, options as options_of};
use tripline::rule::compile::{compile, wanted};
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::rule::expression::{Aggregate, Type};
use tripline::rule::message::Template;
use tripline::rule::parse::parse;
use tripline::rule::table_row::{TableRow, table_row};
use tripline::rule::{Confirm, OutputExpr, Query, Rule, Time};
use tripline::unit::{Answer, Asked, Question};
use tripline::window::Window;

use self::grammar::{TABLE, rule, values};
use crate::harness::{Database, Dice, Stack};

const RULES: usize = 50;
const ROWS: u64 = 40;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A rule, and what memory holds for it.
struct Watched {
    sql: String,
    query: Query,
    window: Window,
}

/// Groups that HAVING holds for, by the texts of their keys, with their outputs as text.
type Answers = BTreeMap<Vec<Option<String>>, Vec<Option<String>>>;

struct World {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
    url: String,
    rules: Vec<Watched>,
    wanted: Vec<usize>,
    rows: BTreeMap<Key, Box<[Value]>>,
    lsn: u64,
    /// Groups that were compared, groups that memory could not tell of, and rules that were an error at some look.
    counts: (u64, u64, u64),
}

fn client(url: &str) -> Client {
    Client::new(url, url.to_owned(), "postgres.url", Session::Reading(Duration::from_secs(30))).unwrap()
}

/// The time zones that its text names, as the server has them.
async fn with_zones(query: &mut Query, zones: &Zones) {
    let names = query.zone_names();
    let found = zones.named(&names, &"the test".to_owned()).await.unwrap();
    query.change_zones(&mut |zone| {
        let place = names.iter().position(|name| name == zone.name()).unwrap();
        *zone = Arc::clone(&found[place]);
    });
}

/// Some columns of a row.
fn update(dice: &mut Dice, id: u64, row: Vec<(&str, String)>) -> String {
    let set = row.iter().filter(|_| dice.one_in(4)).map(|(column, value)| format!(", {column} = {value}"));
    format!("UPDATE streaming.t SET id = id{} WHERE id = {id};", set.collect::<String>())
}

/// A row, unless it is there.
fn insert(id: u64, row: Vec<(&str, String)>) -> String {
    let (columns, values): (Vec<&str>, Vec<String>) = row.into_iter().unzip();
    let (columns, values) = (columns.join(", "), values.join(", "));
    format!("INSERT INTO streaming.t (id, {columns}) VALUES ({id}, {values}) ON CONFLICT DO NOTHING;")
}

/// A key as the test asks for it: times in microseconds.
fn texts(query: &Query, key: &Key) -> Vec<Option<String>> {
    let of = |(value, text): (Value, Option<String>)| match value {
        Value::Time(Timestamp::MAX | Timestamp::MIN) => text,
        Value::Time(at) => Some(at.0.to_string()),
        _ => text,
    };
    key.values().into_iter().zip(key_texts(query, key)).map(of).collect()
}

/// The columns of `q` that are the key, as text.
fn key_columns(query: &Query) -> String {
    let one = |(place, index): (usize, &usize)| match query.table.columns[*index].ty {
        ColumnType::TimestampTz | ColumnType::Timestamp { .. } | ColumnType::Date => micros(&format!("q.k{place}")),
        // As it is shown: a cast writes the netmask of a single address too.
        ColumnType::Inet => format!("CASE WHEN q.k{place} IS NOT NULL THEN format('%s', q.k{place}) END"),
        _ => format!("q.k{place}::text"),
    };
    query.group_by.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}

/// A time as microseconds since 1970, the infinities by name.
fn micros(time: &str) -> String {
    format!(
        "CASE WHEN isfinite({time}) THEN (extract(epoch FROM {time}) * 1000000)::bigint::text ELSE {time}::text END"
    )
}

/// The table's rows, each as a JSON array of texts.
fn rows_sql(query: &Query, wanted: &[usize]) -> String {
    let columns = query.table.primary_key.iter().chain(wanted).map(|index| {
        let name = &query.table.columns[*index].name;
        match name.as_str() {
            "created_at" | "local_at" | "day" => micros(name),
            name => format!("\"{name}\"::text"),
        }
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!("SELECT json_build_array({columns})::text FROM streaming.t")
}

/// The changes since `held`, which has the earlier rows and gets the current ones.
fn changes(
    query: &Query,
    wanted: &[usize],
    rows: &[String],
    held: &mut BTreeMap<Key, Box<[Value]>>,
    lsn: &mut u64,
) -> Vec<(Change, Position)> {
    let mut now: BTreeMap<Key, Box<[Value]>> = BTreeMap::new();
    for row in rows {
        let texts: Vec<Option<String>> = serde_json::from_str(row).unwrap();
        let TableRow { pk, row } = table_row(query, wanted, &texts).unwrap();
        now.insert(pk, row);
    }
    let mut found = Vec::new();
    for (pk, row) in &now {
        match held.get(pk) {
            Some(before) if before == row => {}
            Some(_) => found.push((Op::Update, pk.clone(), Some(row.clone()))),
            None => found.push((Op::Create, pk.clone(), Some(row.clone()))),
        }
    }
    found.extend(held.keys().filter(|pk| !now.contains_key(*pk)).map(|pk| (Op::Delete, pk.clone(), None)));
    *held = now;
    let change = |(op, pk, row)| {
        *lsn += 1;
        let position = Position { partition: 0, offset: i64::try_from(*lsn).unwrap() };
        let (pk, lsn) = (Some(pk), Some(Lsn(*lsn)));
        (Change { op, pk, row, before: None, lsn, tx_id: None, committed_at: None, holes: Vec::new() }, position)
    };
    found.into_iter().map(change).collect()
}

fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(plain(text)),
        other => Some(plain(&other.to_string())),
    }
}

/// Sums of floating point depend on the order of the rows, which is a plan's: what is compared are some digits of them.
fn rough(query: &Query, outputs: Vec<Option<String>>) -> Vec<Option<String>> {
    let values = query.outputs.iter().filter_map(|output| match output.expr {
        OutputExpr::Value(_, ty) => Some(ty),
        OutputExpr::Key(_) => None,
    });
    let rough =
        |text: String| text.parse::<f64>().map_or(text, |value| format!("{value:.3e}").replace("-0.000e0", "0.000e0"));
    let one = |(ty, text): (Type, Option<String>)| if ty.is_float() { text.map(rough) } else { text };
    values.zip(outputs).map(one).collect()
}

/// A number without what its scale alone adds.
fn plain(text: &str) -> String {
    let is_number = text.contains('.') && text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
    if is_number { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

impl World {
    /// Of as many rules as are tried here. `compares`: as a start does, it compares the plans of text and rendering.
    fn new(database: &Database, dice: &mut Dice, compares: bool, tried: &Cell<u64>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = Stack::get().url(&database.name);
        let mut connection = runtime.block_on(PgConnection::connect(&url)).unwrap();
        let mut run = |sql: &str| {
            runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection)).unwrap();
        };
        run("SET timezone = 'UTC'");
        run("DROP SCHEMA IF EXISTS streaming CASCADE");
        run(TABLE);
        let table: Table = runtime.block_on(catalog::table(&mut connection, "streaming", "t")).unwrap();
        let zones = Zones::new(client(&url), Vec::new());
        let mut compiled = Vec::new();
        while compiled.len() < RULES {
            let sql = rule(dice);
            let parsed = parse(&sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
            let mut query = compile(&parsed, &table).unwrap_or_else(|error| panic!("{error}: {sql}"));
            // Postgres folds constants, and finds errors in them.
            if runtime.block_on(catalog::prepare(&mut connection, &sql)).is_err() {
                continue;
            }
            tried.set(tried.get() + 1);
            let same = if compares {
                runtime.block_on(catalog::compare(&mut connection, &sql, &query, &parsed.spelling))
            } else {
                Ok(())
            };
            match same {
                Ok(()) => {
                    runtime.block_on(with_zones(&mut query, &zones));
                    compiled.push((sql, query));
                }
                Err(error) if error.to_string().contains("division by zero") => {}
                Err(error) => panic!("{error}: {sql}"),
            }
        }
        let queries: Vec<&Query> = compiled.iter().map(|(_, query)| query).collect();
        let wanted = wanted(&queries);
        let rules = compiled
            .into_iter()
            .map(|(sql, query)| {
                let program = Program::new(&query, &wanted).unwrap();
                Watched { sql, window: Window::new(program, Time::Processing), query }
            })
            .collect();
        Self { runtime, connection, url, rules, wanted, rows: BTreeMap::new(), lsn: 0, counts: (0, 0, 0) }
    }

    /// Changes, and looks at what they have come to.
    fn run(&mut self, dice: &mut Dice, looks: u64) {
        for _ in 0..looks {
            for _ in 0..=dice.below(4) {
                self.change(dice);
            }
            self.look(dice);
        }
    }

    fn fetch(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned()));
        self.runtime.block_on(query.fetch_all(&mut self.connection))
    }

    fn change(&mut self, dice: &mut Dice) {
        let mut statements = String::new();
        for _ in 0..=dice.below(6) {
            let id = dice.below(ROWS);
            let row = values(dice);
            let statement = match dice.below(5) {
                0 => format!("DELETE FROM streaming.t WHERE id = {id};"),
                1 | 2 => update(dice, id, row),
                _ => insert(id, row),
            };
            statements.push_str(&statement);
        }
        let run = sqlx::raw_sql(AssertSqlSafe(statements));
        self.runtime.block_on(run.execute(&mut self.connection)).unwrap();
        self.read();
    }

    /// Passes the table's changes to every window.
    fn read(&mut self) {
        let query = self.rules[0].query.clone();
        let rows = self.fetch(&rows_sql(&query, &self.wanted)).unwrap();
        let now = self.now();
        for (change, position) in changes(&query, &self.wanted, &rows, &mut self.rows, &mut self.lsn) {
            for rule in &mut self.rules {
                rule.window.apply(&change, position, now);
            }
        }
    }

    fn now(&mut self) -> Timestamp {
        let micros = self.fetch("SELECT (extract(epoch FROM now()) * 1000000)::bigint::text").unwrap();
        Timestamp(micros[0].parse().unwrap())
    }

    /// Memory against Postgres.
    fn look(&mut self, dice: &mut Dice) {
        let asked = usize::try_from(dice.below(RULES as u64)).unwrap();
        for at in 0..self.rules.len() {
            let now = self.now();
            let Watched { sql, query, window } = &mut self.rules[at];
            let (mut memory, mut unknown, mut all) = (Answers::new(), BTreeSet::new(), Vec::new());
            let groups: Vec<Key> = (0..window.places()).filter_map(|place| window.group_at(place).cloned()).collect();
            for key in groups {
                let (evaluation, outputs) = window.evaluate(&key, now);
                let texts = texts(query, &key);
                match evaluation {
                    Evaluation::Holds => {
                        memory.insert(texts, rough(query, outputs.values().map(text).collect()));
                    }
                    Evaluation::Unknown => drop(unknown.insert(texts)),
                    Evaluation::Fails => {}
                }
                all.push(key);
            }
            let values = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Value(..)));
            let names: Vec<String> = values.map(|output| format!("q.{}::text", output.name)).collect();
            let whole = format!(
                "SELECT json_build_array(json_build_array({}), json_build_array({}))::text FROM ({sql}) AS q",
                key_columns(query),
                names.join(", ")
            );
            let (sql, query, unknown_count, all_count) =
                (sql.clone(), query.clone(), unknown.len() as u64, all.len() as u64);
            let rows = match self.fetch(&whole) {
                Ok(rows) => rows,
                // Data that the rule's text is an error for: nothing to compare with. It is counted.
                Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("22")) => {
                    self.counts.2 += 1;
                    continue;
                }
                Err(error) => panic!("{error}: {sql}"),
            };
            let mut wanted = Answers::new();
            for row in rows {
                let [key, outputs]: [Vec<Option<String>>; 2] = serde_json::from_str(&row).unwrap();
                wanted.insert(key, rough(&query, outputs.iter().map(|text| text.as_deref().map(plain)).collect()));
            }
            // An output that memory cannot calculate is null in it.
            let confirmed = wanted.clone();
            wanted.retain(|key, _| !unknown.contains(key));
            for (key, outputs) in &mut wanted {
                for (wanted, got) in outputs.iter_mut().zip(memory.get(key).into_iter().flatten()) {
                    if got.is_none() {
                        *wanted = None;
                    }
                }
            }
            assert_eq!(memory, wanted, "memory, and Postgres: {sql}\nrows {:?}", self.rows);
            self.counts.0 += all_count;
            self.counts.1 += unknown_count;
            if at == asked {
                self.confirm(at, &all, now, &confirmed, &unknown);
            }
        }
    }

    /// Checks that a confirmation of every group gives the same as the rule's text.
    fn confirm(
        &mut self,
        at: usize,
        keys: &[Key],
        now: Timestamp,
        wanted: &Answers,
        unknown: &BTreeSet<Vec<Option<String>>>,
    ) {
        let Watched { sql, query, window, .. } = &self.rules[at];
        // Two plans may add floating point up in two orders; what comes of it memory does not know.
        let summed = |aggregate: &Aggregate| aggregate.over.is_float() && !aggregate.is_count();
        if !unknown.is_empty() && query.aggregates.iter().any(summed) {
            return;
        }
        let rule = Rule {
            name: "r".to_owned(),
            version: "v".to_owned(),
            severity: "info".to_owned(),
            message: Template::parse("x", &[]).unwrap(),
            time: Time::Processing,
            confirm: Confirm::Required,
            query: query.clone(),
        };
        let asked: Vec<Asked> = keys
            .iter()
            .map(|key| Asked { key: key.clone(), texts: key_texts(query, key), now, stream: Map::new() })
            .collect();
        let question = Question { rule: 0, asked };
        let (url, wanted_columns) = (self.url.clone(), self.wanted.clone());
        let nulls = Question {
            asked: question.asked.iter().filter(|asked| asked.has_null()).cloned().collect(),
            ..question.clone()
        };
        // No row is dated past the instant that is asked about: under event time the answer is the same.
        let event = query.bound.is_some().then(|| Rule { time: Time::Event, ..rule.clone() });
        let (answers, page, swept, rows, null_rows) = self.runtime.block_on(async {
            let options = options_of(&url).unwrap();
            let rules = [rule];
            let tables = tripline::rule::watched::Watched::one(&rules, &wanted_columns);
            let confirm = PostgresConfirm::new(options, 1, Duration::from_secs(5), &rules, &tables);
            let answers = confirm.ask(&question).await;
            if let Some(event) = event {
                let options = options_of(&url).unwrap();
                let event = PostgresConfirm::new(options, 1, Duration::from_secs(5), &[event], &tables);
                for (answer, other) in answers.iter().zip(event.ask(&question).await) {
                    let holds = |answer: &Result<Answer, CallError>| answer.as_ref().map(|answer| answer.holds).ok();
                    assert_eq!(holds(answer), holds(&other), "{other:?}: {sql}");
                }
                event.close().await;
            }
            let page = confirm.page(0, None, now).await.unwrap();
            let swept = confirm.sweep(0, now).await.unwrap();
            let (rows, null_rows) = (confirm.rows_of(&question).await.unwrap(), confirm.rows_of(&nulls).await.unwrap());
            confirm.close().await;
            (answers, page, swept, rows, null_rows)
        });
        for (asked, answer) in question.asked.iter().zip(answers) {
            let answer = answer.unwrap_or_else(|error| panic!("{error}: {sql}"));
            let texts = texts(query, &asked.key);
            assert_eq!(answer.holds, wanted.contains_key(&texts), "{texts:?}: {sql}");
            if let Some(outputs) = wanted.get(&texts) {
                let got: Vec<Option<String>> = rough(query, answer.outputs.values().map(text).collect());
                assert_eq!(&got, outputs, "{:?}: {sql}", asked.texts);
            }
        }
        // The rows of exactly these groups.
        for (question, rows) in [(&question, rows), (&nulls, null_rows)] {
            let asked: BTreeSet<&Key> = question.asked.iter().map(|asked| &asked.key).collect();
            let read: BTreeSet<Key> = rows.iter().map(|row| window.key_of(&row.row)).collect();
            assert!(read.iter().all(|key| asked.contains(key)), "{read:?} of {asked:?}: {sql}");
            let held = question.asked.iter().filter(|asked| wanted.contains_key(&texts(query, &asked.key)));
            held.for_each(|asked| assert!(read.contains(&asked.key), "{:?}: {sql}", asked.key));
        }
        let swept: BTreeSet<Vec<Option<String>>> = swept.iter().map(|key| texts(query, key)).collect();
        assert_eq!(swept, wanted.keys().cloned().collect(), "a sweep: {sql}");
        let page: BTreeSet<Key> = page.into_iter().collect();
        let missing = keys.iter().filter(|key| !page.contains(*key) && !key.values().contains(&Value::Null));
        for key in missing {
            let is_held = texts(query, key);
            assert!(!wanted.contains_key(&is_held), "{is_held:?} is not in the first page of keys: {sql}");
        }
    }
}

fn differential(first: u64, seeds: u64, looks: u64) {
    let (first, seeds) = match std::env::var("RULES_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (first, setting("RULES_SEEDS", seeds)),
    };
    let looks = setting("RULES_LOOKS", looks);
    let database = Database::empty("rules_random");
    let mut counts = (0, 0, 0);
    for seed in first..first + seeds {
        eprintln!("RULES_SEED={seed}");
        let mut dice = Dice(seed);
        let mut world = World::new(&database, &mut dice, true, &Cell::new(0));
        world.run(&mut dice, looks);
        let (groups, unknown, errors) = world.counts;
        counts = (counts.0 + groups, counts.1 + unknown, counts.2 + errors);
    }
    let (groups, unknown, errors) = counts;
    eprintln!(
        "{} pairs of rule and state: {groups} groups, {unknown} of which memory could not tell; {errors} pairs an error in Postgres",
        seeds * looks * RULES as u64
    );
    assert!(groups > 10 * unknown, "memory could not tell of {unknown} groups of {groups}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rules_random() {
    differential(1, 4, 20);
}

/// `RULES_SEEDS` and `RULES_SEED` go on where another run ended.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rules_random() {
    differential(1_000, 100, 40);
}
