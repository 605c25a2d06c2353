//! Tables of random shape: the types of their keys and columns, and values that these can hold.

use std::fmt::Write as _;

use crate::harness::Dice;

/// The kind of a column's values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Whole(&'static str),
    Text(&'static str),
    Uuid,
    Address,
    Label,
    Bool,
    Numeric(&'static str, u32),
    Time(&'static str),
}

/// The types that the tables need.
pub(super) const TYPES: &str = "CREATE TYPE streaming.\"Label\" AS ENUM ('l0', 'l''1', 'l2', 'l3', 'l4', 'l5', 'l6', 'l7', 'l8', 'l9', 'l10', 'l11');
    CREATE DOMAIN streaming.short AS varchar(40);
    CREATE DOMAIN streaming.shorter AS streaming.short;
    CREATE DOMAIN streaming.price AS numeric(12,2);";

const KEYS: [Kind; 12] = [
    Kind::Whole("bigint"),
    Kind::Whole("integer"),
    Kind::Whole("smallint"),
    Kind::Text("text"),
    Kind::Text("varchar(40)"),
    Kind::Uuid,
    Kind::Bool,
    Kind::Whole("bigint"),
    Kind::Text("char(30)"),
    Kind::Text("streaming.shorter"),
    Kind::Address,
    Kind::Label,
];
const IDS: [Kind; 8] = [
    Kind::Whole("bigint"),
    Kind::Whole("integer"),
    Kind::Text("text"),
    Kind::Uuid,
    Kind::Whole("bigint"),
    Kind::Text("char(30)"),
    Kind::Text("streaming.short"),
    Kind::Address,
];
const AMOUNTS: [Kind; 9] = [
    Kind::Numeric("numeric(12,2)", 2),
    Kind::Numeric("numeric(20,6)", 6),
    Kind::Numeric("numeric(9,0)", 0),
    Kind::Numeric("numeric", 4),
    Kind::Whole("integer"),
    Kind::Whole("bigint"),
    Kind::Whole("smallint"),
    // Whole numbers, of which a sum does not depend on the order.
    Kind::Whole("double precision"),
    Kind::Numeric("streaming.price", 2),
];
const TIMES: [Kind; 6] = [
    Kind::Time("timestamptz"),
    Kind::Time("timestamptz(3)"),
    Kind::Time("timestamp"),
    Kind::Time("timestamp(3)"),
    Kind::Time("timestamp(0)"),
    Kind::Time("date"),
];

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Self::Whole(sql) | Self::Text(sql) | Self::Numeric(sql, _) | Self::Time(sql) => sql,
            Self::Uuid => "uuid",
            Self::Address => "inet",
            Self::Label => "streaming.\"Label\"",
            Self::Bool => "boolean",
        }
    }

    /// The n-th of its values as a literal. Nearby numbers are different values.
    fn numbered(self, n: u64) -> String {
        match self {
            Self::Whole(_) => n.to_string(),
            // Quotes, a line's end and what is no ASCII come through as they are.
            Self::Text(_) => format!("E'k{n}\\n\\'\"ü€{}'", "x".repeat(usize::try_from(n % 7).unwrap())),
            Self::Uuid => format!("'00000000-0000-4000-8000-{n:012}'"),
            Self::Address if n.is_multiple_of(3) => format!("'2001:db8::{n:x}'"),
            Self::Address => format!(
                "'10.{}.{}.{}/{}'",
                n / 65_536 % 256,
                n / 256 % 256,
                n % 256,
                if n.is_multiple_of(2) { 32 } else { 16 }
            ),
            Self::Label if n == 1 => "'l''1'".to_owned(),
            Self::Label => format!("'l{}'", n % 12),
            Self::Bool => (n.is_multiple_of(2)).to_string(),
            Self::Numeric(..) | Self::Time(_) => unreachable!("no key"),
        }
    }
}

/// One table.
pub(super) struct Shape {
    pub(super) name: String,
    ids: Vec<Kind>,
    key: Kind,
    key_is_nullable: bool,
    amount: Kind,
    amount_is_nullable: bool,
    time: Kind,
    time_is_nullable: bool,
    identity: &'static str,
}

fn one_of(dice: &mut Dice, kinds: &[Kind]) -> Kind {
    kinds[usize::try_from(dice.below(kinds.len() as u64)).unwrap()]
}

impl Shape {
    pub(super) fn random(dice: &mut Dice, number: usize) -> Self {
        let ids = if dice.one_in(4) { 2 } else { 1 };
        Self {
            name: format!("t{number}"),
            ids: (0..ids).map(|_| one_of(dice, &IDS)).collect(),
            key: one_of(dice, &KEYS),
            key_is_nullable: dice.one_in(3),
            amount: one_of(dice, &AMOUNTS),
            amount_is_nullable: dice.one_in(3),
            time: one_of(dice, &TIMES),
            time_is_nullable: dice.one_in(4),
            identity: if dice.one_in(3) { "FULL" } else { "DEFAULT" },
        }
    }

    /// The statements that make it.
    pub(super) fn ddl(&self) -> String {
        let Self { name, ids, key, amount, time, identity, .. } = self;
        let null = |nullable: bool| if nullable { "" } else { "NOT NULL" };
        let mut columns: Vec<String> =
            ids.iter().enumerate().map(|(at, id)| format!("id{at} {} NOT NULL", id.sql())).collect();
        columns.push(format!("k {} {}", key.sql(), null(self.key_is_nullable)));
        columns.push("note text".to_owned());
        columns.push(format!("amount {} {}", amount.sql(), null(self.amount_is_nullable)));
        columns.push(format!("\"at\" {} {}", time.sql(), null(self.time_is_nullable)));
        columns.push("tags jsonb DEFAULT '{}'".to_owned());
        let names: Vec<String> = (0..ids.len()).map(|at| format!("id{at}")).collect();
        format!(
            "CREATE TABLE streaming.{name} ({}, PRIMARY KEY ({}));
             ALTER TABLE streaming.{name} REPLICA IDENTITY {identity};",
            columns.join(", "),
            names.join(", ")
        )
    }

    /// The whole shape, for a failure.
    pub(super) fn described(&self) -> String {
        self.ddl().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Condition that selects the rows of one number.
    pub(super) fn is(&self, row: u64) -> String {
        let ids = self.ids.iter().enumerate().map(|(at, id)| format!("id{at} = {}", id.numbered(row + at as u64)));
        ids.collect::<Vec<_>>().join(" AND ")
    }

    /// `column = value` for another primary key.
    pub(super) fn renumbered(&self, row: u64) -> String {
        self.is(row).replace(" AND ", ", ")
    }

    pub(super) fn key_value(&self, dice: &mut Dice) -> String {
        if self.key_is_nullable && dice.one_in(6) {
            return "NULL".to_owned();
        }
        self.key.numbered(dice.below(12))
    }

    pub(super) fn amount_value(&self, dice: &mut Dice) -> String {
        if self.amount_is_nullable && dice.one_in(6) {
            return "NULL".to_owned();
        }
        let sign = if dice.one_in(5) { "-" } else { "" };
        match self.amount {
            Kind::Numeric(_, 0) => format!("{sign}{}", dice.below(2_000)),
            Kind::Numeric(_, scale) => {
                let fraction = dice.below(10_u64.pow(scale));
                format!("{sign}{}.{fraction:0width$}", dice.below(2_000), width = usize::try_from(scale).unwrap())
            }
            _ => format!("{sign}{}", dice.below(2_000)),
        }
    }

    /// Well inside of the window of a week, or well outside.
    pub(super) fn time_value(&self, dice: &mut Dice) -> String {
        if self.time_is_nullable && dice.one_in(8) {
            return "NULL".to_owned();
        }
        let hours = if dice.one_in(5) { 9 * 24 + dice.below(500) } else { 1 + dice.below(5 * 24) };
        format!("now() - interval '{hours} hours {} microseconds'", dice.below(1_000_000))
    }

    /// The values of a row, in the order of the columns.
    pub(super) fn row(&self, dice: &mut Dice, row: u64) -> String {
        let mut values = String::new();
        for (at, id) in self.ids.iter().enumerate() {
            let _ = write!(values, "{}, ", id.numbered(row + at as u64));
        }
        // Longer than what stands in the row itself: an update without it has a placeholder.
        let note = if dice.one_in(5) {
            "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) AS n)"
        } else {
            "'short'"
        };
        let _ = write!(
            values,
            "{}, {note}, {}, {}, '{{\"a\": 1}}'",
            self.key_value(dice),
            self.amount_value(dice),
            self.time_value(dice)
        );
        values
    }

    /// The key of `q` as an alert shows it.
    pub(super) fn key_text(&self) -> &'static str {
        match self.key {
            // A cast writes the netmask of a single address too.
            Kind::Address => "CASE WHEN k IS NULL THEN 'null' ELSE format('%s', k) END",
            _ => "coalesce(k::text, 'null')",
        }
    }

    /// A rule whose keys are all open: what memory says of each shows in its alert.
    pub(super) fn everything(&self) -> String {
        self.rule("SELECT k, COUNT(*) AS rows, SUM(amount) AS total, SUM(ABS(amount)) AS volume", "COUNT(*) >= 1")
    }

    /// A rule whose keys are over a threshold or not.
    pub(super) fn some(&self) -> String {
        self.rule("SELECT k, SUM(amount) AS total", "SUM(amount) > 4000")
    }

    fn rule(&self, select: &str, having: &str) -> String {
        let name = &self.name;
        format!("{select} FROM streaming.{name} WHERE \"at\" >= NOW() - INTERVAL '7 days' GROUP BY k HAVING {having}\n")
    }
}
