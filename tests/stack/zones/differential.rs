//! Memory's edges and instants against Postgres's: many zones, at random instants and around every change of the clocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tripline::model::zone::Zone;
use tripline::model::{Column, ColumnType, Table, Timestamp};
use tripline::postgres::zones::{Wanted, Zones};
use tripline::postgres::{Database, Session};
use tripline::rule::evaluate::Program;
use tripline::rule::{compile, parse};

use crate::harness::{Dice, Stack};

const SECOND: i64 = 1_000_000;

/// Summer and winter, half an hour of summer, quarters of an hour, the date line, Ramadan, history's odd ones, and none.
const ZONES: [&str; 24] = [
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Asia/Tokyo",
    "America/New_York",
    "Europe/London",
    "Europe/Dublin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Gaza",
    "America/Caracas",
    "Europe/Moscow",
    "Asia/Pyongyang",
    "America/St_Johns",
    "Antarctica/Troll",
    "Africa/Monrovia",
    "Europe/Amsterdam",
    "Asia/Manila",
    "Etc/GMT+5",
];

/// A history is its seed.
struct Numbers(Dice);

impl Numbers {
    fn below(&mut self, bound: i64) -> i64 {
        self.0.between(0, bound - 1)
    }
}

fn program(back: &str, ty: ColumnType, zone: &Arc<Zone>) -> Program {
    let column = |(name, ty): (&str, ColumnType)| Column {
        name: name.to_owned(),
        type_name: format!("{ty:?}").to_lowercase(),
        ty,
        nullable: true,
        has_default: false,
    };
    let columns = [("id", ColumnType::Int8), ("at", ty)].map(column).into();
    let table = Table { schema: "public".to_owned(), name: "t".to_owned(), columns, primary_key: vec![0] };
    let sql =
        format!("SELECT id, COUNT(*) FROM t WHERE at >= NOW() - INTERVAL '{back}' GROUP BY id HAVING COUNT(*) > 1");
    let mut query = compile::compile(&parse::parse(&sql).unwrap(), &table).unwrap();
    query.zone = Arc::clone(zone);
    Program::new(&query, &[0, 1]).unwrap()
}

/// Instants to ask for: around each change of the offset, a day or a month after it, and anywhere.
fn instants(zone: &Zone, numbers: &mut Numbers) -> Vec<i64> {
    const HOUR: i64 = 3_600 * SECOND;
    let from = Timestamp::parse("1900-01-01T00:00:00Z").unwrap().0;
    let to = Timestamp::parse("2060-01-01T00:00:00Z").unwrap().0;
    let mut changes = BTreeSet::new();
    let mut at = from;
    while at < to {
        let next = at + 24 * HOUR;
        if zone.local(Timestamp(at)) - at != zone.local(Timestamp(next)) - next {
            changes.insert(at);
        }
        at = next;
    }
    let mut found: Vec<i64> = (0..200).map(|_| from + numbers.below(to - from)).collect();
    for change in changes {
        for later in [0, 24, 48, 28 * 24, 30 * 24, 31 * 24, 365 * 24] {
            // Mostly round times, as those are where something happens.
            let spread = numbers.below(56 * 4) * HOUR / 4 - 16 * HOUR;
            let fine = if numbers.below(4) == 0 { numbers.below(SECOND) } else { 0 };
            found.push(change + later * HOUR + spread + fine);
        }
    }
    found
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn memory_has_the_edges_and_instants_of_postgres() {
    let url = Stack::get().url("postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let session = Session::Reading(Duration::from_secs(30));
    let database = Database::new(&url, url.clone(), "postgres.url", session).unwrap();
    let wanted = ZONES.iter().map(|name| Wanted::Named((*name).to_owned(), "the test".to_owned())).collect();
    let zones = runtime.block_on(Zones::new(database, wanted).find()).unwrap();
    let mut connection = runtime.block_on(PgConnection::connect(&url)).unwrap();
    let seed = std::env::var("TRIPLINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_127);
    let mut numbers = Numbers(Dice(seed));
    let backs = ["1 day", "7 days", "1 month", "1 year 2 days", "1 month 1 day 3 hours", "36 hours", "11 months"];
    for zone in &zones {
        let instants = instants(zone, &mut numbers);
        let local =
            |at: &i64| program("1 hour", ColumnType::Timestamp { precision: 6 }, zone).instant(Timestamp(*at)).0;
        let mut ours: Vec<Vec<i64>> = vec![instants.iter().map(local).collect()];
        let mut columns = vec![
            "(timestamp '1970-01-01' + make_interval(secs => 0) + n * interval '1 microsecond')::timestamptz"
                .to_owned(),
        ];
        for back in backs {
            let program = program(back, ColumnType::TimestampTz, zone);
            ours.push(instants.iter().map(|at| program.left_edge(Timestamp(*at)).at().0).collect());
            columns.push(format!(
                "(timestamptz '1970-01-01 00:00:00+00' + n * interval '1 microsecond') - interval '{back}'"
            ));
        }
        let micros = columns.iter().map(|column| format!("(extract(epoch from {column}) * 1000000)::bigint"));
        let sql = format!(
            "select {} from unnest($1::bigint[]) with ordinality as asked(n, place) order by place",
            micros.collect::<Vec<_>>().join(", ")
        );
        let set = format!("set timezone = '{}'", zone.name());
        let rows = runtime.block_on(async {
            sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
            sqlx::query(AssertSqlSafe(sql)).bind(&instants).fetch_all(&mut connection).await.unwrap()
        });
        assert_eq!(rows.len(), instants.len());
        for (index, (row, at)) in rows.iter().zip(&instants).enumerate() {
            for (place, ours) in ours.iter().enumerate() {
                let theirs: i64 = row.get(place);
                let what = if place == 0 { "the instant of local time" } else { backs[place - 1] };
                assert_eq!(
                    Timestamp(ours[index]),
                    Timestamp(theirs),
                    "{what} at {} in {} (TRIPLINE_SEED={seed})",
                    Timestamp(*at),
                    zone.name()
                );
            }
        }
    }
}
