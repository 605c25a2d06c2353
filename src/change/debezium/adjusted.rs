//! Column names that the connector has changed to be legal in Avro (`field.name.adjustment.mode`), in records and their
//! keys. The rule is that of Debezium's `SchemaNameAdjuster`, which works on UTF-16 code units:
//! <https://github.com/debezium/debezium/tree/main/debezium-connector-common/src/main/java/io/debezium/schema>.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use crate::model::Table;

/// A mode that changes names.
#[derive(Clone, Copy)]
enum Mode {
    /// `avro`: an illegal character becomes `_`.
    Underscore,
    /// `avro_unicode`: an illegal character becomes `_u` and its code in hexadecimal. So does `_` itself.
    Unicode,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Underscore, Self::Unicode];

    /// The name that this mode writes for a column.
    fn adjusted(self, name: &str) -> String {
        let mut written = String::with_capacity(name.len());
        for (at, unit) in name.encode_utf16().enumerate() {
            let ascii = u8::try_from(unit).ok().map(char::from);
            let is_legal = |c: &char| {
                let is_underscore = *c == '_' && matches!(self, Self::Underscore);
                c.is_ascii_alphabetic() || is_underscore || at > 0 && c.is_ascii_digit()
            };
            match (ascii, self) {
                (Some(c), _) if is_legal(&c) => written.push(c),
                // A digit at the beginning is kept behind it.
                (Some(c), Self::Underscore) if c.is_ascii_digit() => written.extend(['_', c]),
                (_, Self::Underscore) => written.push('_'),
                // Two zeros before one or two digits, and nothing before three: not always four digits.
                (_, Self::Unicode) => {
                    let zeros = if unit <= 0xff { "00" } else { "" };
                    let _ = write!(written, "_u{zeros}{unit:x}");
                }
            }
        }
        written
    }
}

/// Names in records that differ from the column's own name.
#[derive(Clone, Debug, Default)]
pub(super) struct AdjustedNames(HashMap<String, Meant>);

/// The column that a name in a record stands for, as an index into the table's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    One(usize),
    /// One of these two columns. The name does not show which.
    Either(usize, usize),
}

impl AdjustedNames {
    /// The names for the columns of a table.
    pub(super) fn of(columns: &[&str]) -> Self {
        let mut found: HashMap<String, Meant> = HashMap::new();
        let own: HashMap<&str, usize> = columns.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        for mode in Mode::ALL {
            for (column, name) in columns.iter().enumerate() {
                let written = mode.adjusted(name);
                let meant = match own.get(written.as_str()) {
                    Some(same) if *same == column => continue,
                    // In this mode both columns would have this name, and the connector refuses such a table. So a record
                    // with this name is of no mode, and means the column that is called so.
                    Some(_) if mode.adjusted(&written) == written => continue,
                    Some(other) => Meant::Either(*other, column),
                    None => match found.get(&written) {
                        Some(Meant::One(other)) if *other != column => Meant::Either(*other, column),
                        Some(known) => known.clone(),
                        None => Meant::One(column),
                    },
                };
                found.insert(written, meant);
            }
        }
        Self(found)
    }

    /// The meaning of a name that cannot be taken as a column's own. `None`: it may be a column's own name.
    pub(super) fn meant(&self, written: &str) -> Option<&Meant> {
        self.0.get(written)
    }

    /// All names that stand for this column only, beside its own.
    pub(super) fn of_column(&self, column: usize) -> impl Iterator<Item = &str> {
        let is_this = move |meant: &Meant| *meant == Meant::One(column);
        self.0.iter().filter(move |(_, meant)| is_this(meant)).map(|(written, _)| written.as_str())
    }

    /// Another column that shares a name in records with this one, and that name.
    pub(super) fn shared_by(&self, column: usize) -> Option<(usize, &str)> {
        let mut shared: Vec<_> = self
            .0
            .iter()
            .filter_map(|(written, meant)| match meant {
                Meant::Either(one, two) if *one == column => Some((*two, written.as_str())),
                Meant::Either(one, two) if *two == column => Some((*one, written.as_str())),
                _ => None,
            })
            .collect();
        shared.sort_unstable();
        shared.first().copied()
    }
}

/// The table's own names for the columns that records call by these names. A name that no column has is unchanged.
pub fn own_names(table: &Table, written: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let own: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let adjusted = AdjustedNames::of(&own);
    let own = |written: String| match adjusted.meant(&written) {
        Some(Meant::One(column)) => own.get(*column).map_or(written, |name| (*name).to_owned()),
        _ => written,
    };
    written.into_iter().map(own).collect()
}

/// The reason for a name that may stand for either of two columns.
pub(super) fn either(written: &str, one: &str, two: &str) -> String {
    format!(
        "the name {written:?} may stand for column {one:?} or {two:?}, which field.name.adjustment.mode changes to the same \
         name: rename one of them"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_connector_writes_them() {
        let check = |name: &str, underscore: &str, unicode: &str| {
            assert_eq!(Mode::Underscore.adjusted(name), underscore, "{name}");
            assert_eq!(Mode::Unicode.adjusted(name), unicode, "{name}");
        };
        check("amount", "amount", "amount");
        check("user_id", "user_id", "user_u005fid");
        check("_hidden", "_hidden", "_u005fhidden");
        check("my-col", "my_col", "my_u002dcol");
        check("a.b c", "a_b_c", "a_u002eb_u0020c");
        check("1st", "_1st", "_u0031st");
        check("größe", "gr__e", "gr_u00f6_u00dfe");
        check("ű", "_", "_u171");
        check("金額", "__", "_u91d1_u984d");
        check("e\u{1f600}", "e__", "e_ud83d_ude00");
        check("\t", "_", "_u009");
        check("", "", "");
    }

    #[test]
    fn which_column_is_meant() {
        let check = |columns: &[&str], written: &str, want: Option<Meant>| {
            assert_eq!(AdjustedNames::of(columns).meant(written), want.as_ref(), "{columns:?} {written}");
        };
        let table = ["id", "my-col", "user_id", "größe"];
        check(&table, "my_col", Some(Meant::One(1)));
        check(&table, "my_u002dcol", Some(Meant::One(1)));
        check(&table, "user_u005fid", Some(Meant::One(2)));
        check(&table, "gr__e", Some(Meant::One(3)));
        check(&table, "id", None);
        check(&table, "my-col", None);
        check(&table, "other", None);
        // Two columns fall on one name.
        check(&["a-b", "a+b"], "a_b", Some(Meant::Either(0, 1)));
        check(&["a-b", "a+b"], "a_u002db", Some(Meant::One(0)));
        // The connector has refused that table, unless it changes no names.
        check(&["a-b", "a_b"], "a_b", None);
        check(&["a_b", "a-b"], "a_u005fb", Some(Meant::One(0)));
        // A name of one column is another one's in another mode.
        check(&["a-b", "a_u002db"], "a_u002db", Some(Meant::Either(1, 0)));
        check(&["a+u002db", "a-b"], "a_u002db", Some(Meant::Either(0, 1)));
    }

    #[test]
    fn the_names_of_a_column() {
        let names = AdjustedNames::of(&["a-b", "a+b", "c_d"]);
        let of = |column| {
            let mut found: Vec<_> = names.of_column(column).collect();
            found.sort_unstable();
            found
        };
        assert_eq!((of(0), of(1), of(2)), (vec!["a_u002db"], vec!["a_u002bb"], vec!["c_u005fd"]));
        assert_eq!((names.shared_by(0), names.shared_by(2)), (Some((1, "a_b")), None));
    }
}
