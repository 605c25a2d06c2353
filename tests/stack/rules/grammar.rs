//! Random rules: every form that a rule may have, over a table of every type that it may read.

use crate::harness::Dice;

/// The table. One name needs its quotes.
pub(super) const TABLE: &str = "CREATE SCHEMA streaming;
    CREATE TYPE streaming.\"State\" AS ENUM ('open', 'held', 'closed', 'x');
    CREATE DOMAIN streaming.price AS numeric(10,2);
    CREATE DOMAIN streaming.label AS varchar(12);
    CREATE TABLE streaming.t (id bigint PRIMARY KEY, user_id bigint, card_id integer, kind smallint, amount numeric(12,2),
      free numeric, country text, status varchar(20), ok boolean, \"Ref\" uuid, created_at timestamptz, local_at timestamp(3),
      day date, rate double precision, weight real, code char(5), state streaming.\"State\", addr inet, price streaming.price,
      label streaming.label)";

/// Columns that rules group by.
const KEYS: [&str; 19] = [
    "user_id",
    "card_id",
    "kind",
    "country",
    "status",
    "ok",
    "\"Ref\"",
    "code",
    "state",
    "addr",
    "label",
    "price",
    "coalesce(code, 'a')",
    "date_trunc('day', created_at)",
    "created_at::date",
    "EXTRACT(dow FROM local_at)",
    "coalesce(country, 'none')",
    "date_trunc('week', created_at AT TIME ZONE 'Europe/Berlin')",
    "EXTRACT(hour FROM created_at AT TIME ZONE 'America/Sao_Paulo')",
];
const TEXTS: [&str; 7] = ["'de'", "'fr'", "'declined'", "'ok'", "'o''k'", "'%'", "''"];

/// The values of a row, as literals.
pub(super) fn values(dice: &mut Dice) -> Vec<(&'static str, String)> {
    let mut value = |nulls: u64, write: &dyn Fn(&mut Dice) -> String| {
        if dice.one_in(nulls) { "NULL".to_owned() } else { write(dice) }
    };
    let text = |dice: &mut Dice| TEXTS[usize::try_from(dice.below(7)).unwrap()].to_owned();
    let pick = |dice: &mut Dice, of: &[&str]| of[usize::try_from(dice.below(of.len() as u64)).unwrap()].to_owned();
    let float = |dice: &mut Dice| match dice.below(24) {
        0 => "'NaN'".to_owned(),
        1 => "'Infinity'".to_owned(),
        2 => "'-0'".to_owned(),
        3 => "1e20".to_owned(),
        4..=12 => dice.between(-20, 60).to_string(),
        _ => format!("{}.{}", dice.between(-9, 60), dice.below(1_000)),
    };
    let hours = |dice: &mut Dice| format!("interval '{} hours {} ms'", dice.below(400), dice.below(100_000));
    vec![
        ("user_id", value(12, &|dice| dice.below(4).to_string())),
        ("card_id", value(12, &|dice| dice.below(3).to_string())),
        ("kind", value(12, &|dice| dice.between(-2, 2).to_string())),
        ("amount", value(10, &|dice| format!("{}.{:02}", dice.between(-300, 1_200), dice.below(100)))),
        (
            "free",
            value(10, &|dice| match dice.below(12) {
                0 => "'NaN'".to_owned(),
                1 => format!("{}e3", dice.below(9)),
                _ => format!("{}.{}", dice.between(-9, 40), dice.below(1_000)),
            }),
        ),
        ("country", value(8, &text)),
        ("status", value(8, &text)),
        ("ok", value(6, &|dice| dice.one_in(2).to_string())),
        ("\"Ref\"", value(8, &|dice| format!("'00000000-0000-4000-8000-00000000000{}'", dice.below(3)))),
        ("created_at", value(12, &|dice| format!("now() - {}", hours(dice)))),
        ("local_at", value(12, &|dice| format!("now()::timestamp - {}", hours(dice)))),
        ("day", value(12, &|dice| format!("now()::date - {}", dice.below(20)))),
        ("rate", value(8, &float)),
        ("weight", value(8, &float)),
        ("code", value(8, &|dice| pick(dice, &["'a'", "'ab '", "'ab'", "'o''k'", "''", "'ABCDE'"]))),
        ("state", value(8, &|dice| pick(dice, &["'open'", "'held'", "'closed'"]))),
        (
            "addr",
            value(8, &|dice| {
                pick(dice, &["'10.0.0.1'", "'10.0.0.1/32'", "'10.0.0.1/8'", "'2001:db8::1'", "'::1'", "'::1.2.3.4'"])
            }),
        ),
        ("price", value(8, &|dice| format!("{}.{:02}", dice.between(-3, 12), dice.below(4) * 25))),
        ("label", value(8, &text)),
    ]
}

/// The operands of an expression.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Row,
    Group,
}

/// Writes expressions.
struct Writer<'a>(&'a mut Dice);

impl Writer<'_> {
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::try_from(self.0.below(of.len() as u64)).unwrap()]
    }

    fn condition(&mut self, over: Over, depth: u64) -> String {
        let compare = |this: &mut Self| this.one(&["=", "<>", "<", "<=", ">", ">=", "!="]).to_owned();
        if depth == 0 {
            let (left, op, right) = (self.number(over, 0), compare(self), self.number(over, 0));
            return format!("{left} {op} {right}");
        }
        match (self.0.below(21), over) {
            (14 | 15, _) => self.time(over),
            (17 | 18, _) => self.floating(over, depth - 1),
            (19 | 20, Over::Row) => self.named(),
            (0..=2, _) => {
                let (left, op, right) = (self.number(over, depth - 1), compare(self), self.number(over, depth - 1));
                format!("{left} {op} {right}")
            }
            (3, _) => format!("({} AND {})", self.condition(over, depth - 1), self.condition(over, depth - 1)),
            (4, _) => format!("({} OR {})", self.condition(over, depth - 1), self.condition(over, depth - 1)),
            (5, _) => format!("NOT ({})", self.condition(over, depth - 1)),
            (6, _) => {
                let (value, not) = (self.number(over, depth - 1), self.one(&["", "NOT "]));
                format!("{value} {not}BETWEEN {} AND {}", self.number(over, 0), self.number(over, 0))
            }
            (7, _) => {
                let (value, not) = (self.number(over, depth - 1), self.one(&["", "NOT "]));
                format!("{value} {not}IN ({}, {}, {})", self.number(over, 0), self.number(over, 0), self.literal())
            }
            (8, _) => {
                let not = self.one(&["", "NOT "]);
                let (left, right) = (self.number(over, depth - 1), self.number(over, depth - 1));
                format!("{left} IS {not}DISTINCT FROM {right}")
            }
            (9, _) => {
                let test = self.one(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "NULL", "UNKNOWN"]);
                format!("({}) IS {test}", self.condition(over, depth - 1))
            }
            (10, Over::Group) => {
                let aggregate = self.one(&["bool_or", "bool_and"]);
                format!("{aggregate}({})", self.condition(Over::Row, depth - 1))
            }
            (10, Over::Row) => self.one(&["ok", "ok = true", "country IS NULL", "status IS NOT NULL"]).to_owned(),
            (11, Over::Row) => {
                let (column, op, text) = (self.one(&["country", "status"]), compare(self), self.one(&TEXTS));
                format!("{column} {op} {text}")
            }
            (12, Over::Row) => {
                let (column, like) = (self.one(&["country", "status"]), self.one(&["LIKE", "NOT LIKE", "ILIKE"]));
                format!("{column} {like} {}", self.one(&["'d%'", "'%k'", "'_e'", "'DE%'", "'o''k'", "'\\%'"]))
            }
            (13, Over::Row) => {
                let (column, not) = (self.one(&["country", "status"]), self.one(&["", "NOT "]));
                format!("{column} {not}IN ({}, {}, 'x')", self.one(&TEXTS), self.one(&TEXTS))
            }
            (_, Over::Row) => "\"Ref\" = '00000000-0000-4000-8000-000000000001'".to_owned(),
            (_, Over::Group) => {
                let (column, op) = (self.one(&["created_at", "local_at", "day"]), compare(self));
                format!("max({column}) {op} min({column})")
            }
        }
    }

    /// A condition on floating point.
    fn floating(&mut self, over: Over, depth: u64) -> String {
        let not = self.one(&["", "NOT "]);
        match self.0.below(5) {
            0 => format!("{} IS {not}DISTINCT FROM {}", self.float(over, depth), self.float(over, 0)),
            1 => format!("{} {not}BETWEEN {} AND {}", self.float(over, depth), self.literal(), self.float(over, 0)),
            2 => format!(
                "{} {not}IN ({}, {}, {})",
                self.float(over, depth),
                self.literal(),
                self.literal(),
                self.literal()
            ),
            _ => {
                let (left, op) = (self.float(over, depth), self.one(&["=", "<>", "<", "<=", ">", ">="]));
                let right = if self.0.one_in(2) { self.float(over, depth) } else { self.number(over, 0) };
                format!("{left} {op} {right}")
            }
        }
    }

    /// A value in floating point.
    fn float(&mut self, over: Over, depth: u64) -> String {
        if depth == 0 {
            return match (self.0.below(6), over) {
                (0, _) => format!("'{}'::float8", self.0.below(40)),
                (1, Over::Row) => "amount::float8".to_owned(),
                (_, Over::Row) => self.one(&["rate", "weight"]).to_owned(),
                (1, Over::Group) => "count(*)::float8".to_owned(),
                (_, Over::Group) => {
                    let (function, of) = (self.one(&["sum", "avg", "min", "max"]), self.float(Over::Row, 0));
                    let filter = if self.0.one_in(4) { self.condition(Over::Row, 0) } else { "true".to_owned() };
                    format!("{function}({of}) FILTER (WHERE {filter})")
                }
            };
        }
        match self.0.below(8) {
            0..=2 => {
                let (left, op) = (self.float(over, depth - 1), self.one(&["+", "-", "*"]));
                let right = if self.0.one_in(2) { self.float(over, 0) } else { self.number(over, 0) };
                format!("({left} {op} {right})")
            }
            3 => format!("({} / {})", self.float(over, depth - 1), 1 + self.0.below(40)),
            4 => format!("abs({})", self.float(over, depth - 1)),
            5 => {
                let function = self.one(&["coalesce", "greatest", "least"]);
                format!("{function}({}, {})", self.float(over, depth - 1), self.number(over, 0))
            }
            6 => format!("({})::{}", self.float(over, 0), self.one(&["real", "float8", "double precision"])),
            _ => format!("CASE WHEN {} THEN {} END", self.condition(over, 0), self.float(over, depth - 1)),
        }
    }

    /// A condition on char(n), enums, addresses and domains.
    fn named(&mut self) -> String {
        let (not, op) = (self.one(&["", "NOT "]), self.one(&["=", "<>"]));
        match self.0.below(9) {
            0 => format!("code {op} {}", self.one(&["'a'", "'ab'", "'ab   '", "''"])),
            1 => format!("code {not}IN ('a', 'ab ', 'zz')"),
            2 => format!("code::text {not}LIKE 'a%'"),
            3 => format!("state {op} {}", self.one(&["'open'", "'held'", "'x'"])),
            4 => format!("state {not}IN ('open', 'x')"),
            5 => format!("state::text {not}LIKE '%e%'"),
            6 => format!("addr {op} {}", self.one(&["'10.0.0.1'", "'10.0.0.1/32'", "'10.0.0.1/8'", "'::1'"])),
            7 => format!("addr {not}IN ('10.0.0.1', '2001:DB8:0::1')"),
            _ => format!("label {not}LIKE 'd%' AND price {op} {}", self.literal()),
        }
    }

    /// A condition on times, most of them with NOW().
    pub(super) fn time(&mut self, over: Over) -> String {
        let op = self.one(&["<", "<=", ">", ">="]).to_owned();
        let column = self.one(&["created_at", "created_at", "local_at", "day"]);
        let of = match over {
            Over::Row => column.to_owned(),
            Over::Group => format!("{}({column})", self.one(&["min", "max"])),
        };
        let back = self.one(&[
            "INTERVAL '1 day'",
            "'36 hours'::interval",
            "INTERVAL '3' DAY",
            "INTERVAL '1 month'",
            "INTERVAL '1 mon 2 days'",
            "INTERVAL '90 minutes'",
            "INTERVAL '1 day 00:00:00.5'",
        ]);
        let unit = self.one(&["hour", "day", "week", "month", "quarter", "year", "minute"]);
        let zone = self.one(&["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]);
        match self.0.below(14) {
            0..=2 => format!("{of} {op} NOW() - {back}"),
            3 => format!("CURRENT_TIMESTAMP - {back} {op} {of}"),
            4 => format!("{of} {op} date_trunc('{unit}', NOW())"),
            5 => format!("{of} {op} date_trunc('{unit}', now() AT TIME ZONE '{zone}') AT TIME ZONE '{zone}'"),
            6 => format!("{of} {op} CURRENT_DATE - {}", self.0.below(12)),
            7 => format!("{of}::date {} CURRENT_DATE - {}", self.one(&["=", "<>", "<"]), self.0.below(9)),
            8 if column != "day" => format!("NOW() - {of} {op} {back}"),
            8 => format!("{of} {op} '2026-11-{:02}'", 1 + self.0.below(28)),
            9 => {
                let (field, at) =
                    (self.one(&["hour", "day", "dow", "isodow", "month", "doy", "week", "quarter"]), self.0.below(9));
                format!("EXTRACT({field} FROM {of} AT TIME ZONE '{zone}') {op} {at}")
            }
            10 => format!("date_trunc('{unit}', {of}) = date_trunc('{unit}', LOCALTIMESTAMP)"),
            11 => format!("{of} {op} TIMESTAMP '2026-11-{:02} 12:00:00'", 1 + self.0.below(28)),
            12 => format!("{of} + {back} {op} date_trunc('{unit}', NOW(), '{zone}')"),
            _ if over == Over::Group => match self.0.below(3) {
                0 => format!("max(created_at) - min(created_at) {op} {back}"),
                1 => format!("max(day) - min(day) {op} {}", self.0.below(9)),
                _ => format!("EXTRACT(epoch FROM max(created_at) - min(local_at)) / 60 {op} {}", self.literal()),
            },
            _ => format!("{of} BETWEEN NOW() - {back} AND statement_timestamp()"),
        }
    }

    fn literal(&mut self) -> String {
        match self.0.below(5) {
            0 => format!("{}.{}", self.0.below(900), self.0.below(100)),
            1 => format!("-{}", self.0.below(50)),
            2 => (self.0.below(30) * 100).to_string(),
            _ => self.0.below(12).to_string(),
        }
    }

    fn number(&mut self, over: Over, depth: u64) -> String {
        if depth == 0 {
            return match (self.0.below(3), over) {
                (0, _) => self.literal(),
                (_, Over::Row) => {
                    self.one(&["amount", "amount", "free", "card_id", "kind", "user_id", "id", "price"]).to_owned()
                }
                (_, Over::Group) => self.aggregate(1),
            };
        }
        match self.0.below(12) {
            0..=2 => self.number(over, 0),
            3..=5 => {
                let op = self.one(&["+", "-", "*", "*", "/", "%"]);
                let left = self.number(over, depth - 1);
                // Zero is an error, and then nothing is compared.
                let right = match op {
                    "/" | "%" => self.divisor(over),
                    "-" if self.0.one_in(2) => format!("({} - {})", self.number(over, 0), self.number(over, 0)),
                    _ => self.number(over, depth - 1),
                };
                format!("({left} {op} {right})")
            }
            6 => format!("abs({})", self.number(over, depth - 1)),
            7 => format!("- {}", self.number(over, 0)),
            8 => {
                let function = self.one(&["coalesce", "greatest", "least", "nullif"]);
                format!("{function}({}, {})", self.number(over, depth - 1), self.number(over, 0))
            }
            9 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(over, depth - 1),
                self.number(over, 0),
                self.number(over, 0)
            ),
            10 if over == Over::Row => {
                let (column, text) = (self.one(&["country", "status"]), self.one(&TEXTS));
                format!("CASE {column} WHEN {text} THEN {} END", self.number(over, 0))
            }
            10 => format!("({})::numeric", self.number(over, 0)),
            _ if over == Over::Group => self.aggregate(depth),
            _ => self.number(over, 0),
        }
    }

    fn divisor(&mut self, over: Over) -> String {
        match (self.0.below(4), over) {
            (0, Over::Group) => "count(*)".to_owned(),
            (1, _) => format!("nullif({}, 0)", self.number(over, 0)),
            (2, _) => format!("{}.0", 1 + self.0.below(40)),
            _ => (1 + self.0.below(40)).to_string(),
        }
    }

    fn aggregate(&mut self, depth: u64) -> String {
        let depth = depth - 1;
        let mut written = match self.0.below(9) {
            0 | 1 => "count(*)".to_owned(),
            2 => format!("count({})", self.number(Over::Row, depth)),
            3 => {
                let of = self.one(&[
                    "country",
                    "user_id",
                    "\"Ref\"",
                    "amount",
                    "ok",
                    "created_at",
                    "status",
                    "free",
                    "rate",
                    "weight",
                    "code",
                    "state",
                    "addr",
                    "label",
                ]);
                format!("count(DISTINCT {of})")
            }
            4 | 5 => format!("sum({})", self.number(Over::Row, depth)),
            6 => format!("avg({})", self.number(Over::Row, depth)),
            7 => format!("min({})", self.number(Over::Row, depth)),
            _ => format!("max({})", self.number(Over::Row, depth)),
        };
        if self.0.one_in(3) {
            written.push_str(&format!(" FILTER (WHERE {})", self.condition(Over::Row, depth.min(1))));
        }
        written
    }
}

/// A rule: outputs `k0` and on are its key, then `o0` and on.
pub(super) fn rule(dice: &mut Dice) -> String {
    let mut writer = Writer(dice);
    let count = 1 + usize::try_from(writer.0.below(3)).unwrap() / 2 + usize::from(writer.0.one_in(6));
    let mut keys: Vec<&str> = Vec::new();
    while keys.len() < count {
        let key = writer.one(&KEYS);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut outputs: Vec<String> = keys.iter().enumerate().map(|(at, key)| format!("{key} AS k{at}")).collect();
    for at in 0..writer.0.below(4) {
        let output = match writer.0.below(10) {
            8 => writer.float(Over::Group, 2),
            9 => format!("{}({})", writer.one(&["min", "max"]), writer.one(&["state", "code", "label"])),
            0 => format!("max({})", writer.one(&["created_at", "local_at", "day"])),
            1 => format!("({})", writer.condition(Over::Group, 1)),
            _ => writer.number(Over::Group, 2),
        };
        outputs.push(format!("{output} AS o{at}"));
    }
    let mut wheres: Vec<String> = Vec::new();
    if !writer.0.one_in(4) {
        let (column, op) = (writer.one(&["created_at", "local_at", "day"]), writer.one(&[">=", ">"]));
        let back =
            writer.one(&["INTERVAL '7 days'", "'1 week'::interval", "INTERVAL '7' DAY", "INTERVAL '5 days 12:00'"]);
        wheres.push(format!("{column} {op} NOW() - {back}"));
    }
    for _ in 0..writer.0.below(3) {
        let condition = writer.condition(Over::Row, 2);
        let at = usize::try_from(writer.0.below(wheres.len() as u64 + 1)).unwrap();
        wheres.insert(at, format!("({condition})"));
    }
    let wheres = if wheres.is_empty() { String::new() } else { format!("WHERE {}", wheres.join(" AND ")) };
    let having = format!("({}) AND count(*) > {}", writer.condition(Over::Group, 2), writer.0.below(2));
    // By name, by number or written again.
    let spelling = writer.0.below(3);
    let spelled = |(at, key): (usize, &&str)| match spelling {
        0 => format!("k{at}"),
        1 => (at + 1).to_string(),
        _ => (*key).to_owned(),
    };
    let keys_text = keys.iter().enumerate().map(spelled).collect::<Vec<_>>().join(", ");
    let outputs = outputs.join(", ");
    format!("SELECT {outputs} FROM streaming.t {wheres} GROUP BY {keys_text} HAVING {having}")
}

/// A rule that depends on NOW() in WHERE, in FILTER and in HAVING. Its keys are `k0` and on.
pub(super) fn timed_rule(dice: &mut Dice) -> String {
    let mut writer = Writer(dice);
    let keys = writer.one(&[
        "user_id",
        "card_id",
        "user_id; card_id",
        "user_id; created_at::date",
        "date_trunc('day', local_at)",
    ]);
    let key = keys.replace("; ", ", ");
    let keys: Vec<String> = keys.split("; ").enumerate().map(|(at, key)| format!("{key} AS k{at}")).collect();
    let mut wheres: Vec<String> = Vec::new();
    for _ in 0..writer.0.below(3) {
        wheres.push(writer.time(Over::Row));
    }
    if writer.0.one_in(3) {
        wheres.push(format!("({} OR {})", writer.time(Over::Row), writer.time(Over::Row)));
    }
    if writer.0.one_in(4) {
        wheres.push("amount > 50".to_owned());
    }
    let wheres = if wheres.is_empty() { String::new() } else { format!("WHERE {}", wheres.join(" AND ")) };
    let mut filtered = |of: &str| format!("{of} FILTER (WHERE {})", writer.time(Over::Row));
    let having = match filtered("").len() % 5 {
        0 => filtered("count(*)") + " >= 2",
        1 => format!("coalesce({}, 0) > coalesce({}, 0)", filtered("sum(amount)"), filtered("sum(amount)")),
        2 => format!("{} IS NULL", filtered("max(amount)")),
        3 => format!("{} AND count(*) > 0", writer.time(Over::Group)),
        _ => format!("({} OR {}) AND count(*) > 1", writer.time(Over::Group), writer.time(Over::Group)),
    };
    format!("SELECT {} FROM streaming.t {wheres} GROUP BY {key} HAVING {having}", keys.join(", "))
}
