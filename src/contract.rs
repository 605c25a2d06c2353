//! A job's assumptions about table, server and topic, as a value that can be compared. Pure.
//!
//! Windows are right as long as types, keys, publication and server are the same as when the rows arrived. So these are
//! read when a job starts, while it works, and whenever the partitions are reassigned. The assumptions are stored with
//! the windows. A difference that matters makes the job prepare again: it gets a new decoder and new rules, and the
//! rows of its windows come from the table.
//!
//! - this file: the contract of one table, and those of all tables that are read
//! - [`gaps`]: changes that the stream cannot bring, and properties that forbid to begin

pub mod gaps;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Lsn;

/// The rules' table and its server, as far as windows depend on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contract {
    /// `system_identifier` of the database cluster and its timeline: `7312345678901234567/1`. LSNs of different servers
    /// or timelines cannot be compared.
    pub server: String,
    /// Name of the database.
    pub database: String,
    /// OID of the table. A table that was dropped and re-created is another table.
    pub relation: u32,
    /// The files of the table, its partitions and its children. Rewriting a table changes its rows without an event.
    pub storage: BTreeMap<String, u32>,
    /// The needed columns, by name.
    pub columns: BTreeMap<String, ColumnContract>,
    /// Columns of the primary key in their order, and whether it is deferrable: `id, line deferrable`.
    pub primary_key: String,
    /// `default`, `full`, `nothing`, or `index` with its columns.
    pub replica_identity: String,
    /// Whether the table is partitioned.
    pub is_partitioned: bool,
    /// Tables that inherit from it without being its partitions.
    pub children: Vec<String>,
    /// Publications that contain the table or a part of it, by name.
    pub publications: BTreeMap<String, Publication>,
    /// Whether row-level security hides rows from this role.
    pub row_security: bool,
}

/// The contracts of the tables whose changes are read, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contracts(pub BTreeMap<String, Contract>);

impl From<Contract> for Contracts {
    /// Creates the contracts of one table, whose name does not matter.
    fn from(contract: Contract) -> Self {
        Self(BTreeMap::from([(String::new(), contract)]))
    }
}

impl Contracts {
    /// Returns the current differences: [`Contract::differences`] of each table that both have. A new table has no
    /// windows yet.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        self.each(now, Contract::differences)
    }

    /// Returns the differences from a later look in the same run: [`Contract::changes`] of each table.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        self.each(now, Contract::changes)
    }

    fn each(&self, now: &Self, compare: impl Fn(&Contract, &Contract) -> Vec<String>) -> Vec<String> {
        let are_several = self.0.len() > 1 || now.0.len() > 1;
        let mut found = Vec::new();
        for (name, then) in &self.0 {
            let Some(now) = now.0.get(name) else { continue };
            let named = |text: String| if are_several { format!("{name}: {text}") } else { text };
            found.extend(compare(then, now).into_iter().map(named));
        }
        found
    }

    /// Returns a contract that was stored without its table's name, with the name that the table has here.
    #[must_use]
    pub fn named(&self, contract: Contract) -> Self {
        let same = self.0.iter().find(|(_, now)| now.relation == contract.relation);
        let name = same.or(self.0.iter().next()).map(|(name, _)| name.clone()).unwrap_or_default();
        Self(BTreeMap::from([(name, contract)]))
    }
}

/// A needed column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnContract {
    /// The type, with everything that changes the meaning of stored values: the scale of `numeric`, the base of a
    /// domain, the labels of an enum. The length of `varchar` is not part of it.
    pub ty: String,
    /// `attnum`. A column that was dropped and added again is another column.
    pub number: i32,
    /// The collation, if the column has one.
    pub collation: Option<String>,
    /// Whether it is a stored generated column.
    pub is_generated: bool,
}

/// How a publication passes on the table's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publication {
    /// Whether changes of partitions are published as changes of the root.
    pub via_root: bool,
    /// The row filters, as Postgres prints them.
    pub row_filters: Vec<String>,
    /// The published columns. `None`: all columns that are not generated.
    pub columns: Option<Vec<String>>,
    /// Whether stored generated columns are published.
    pub generated: bool,
}

/// The result of reading the table's and the server's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The contracts that were read.
    pub contracts: Contracts,
    /// The position in the WAL, read before the contracts.
    pub position: Lsn,
    /// The position up to which the connector has confirmed the WAL, if exactly one slot shows it.
    pub flushed: Option<Lsn>,
}

impl Default for Look {
    fn default() -> Self {
        Self { contracts: Contracts::default(), position: Lsn(0), flushed: None }
    }
}

impl Contract {
    /// The same contract with these columns only.
    #[must_use]
    pub fn of_columns<'a>(mut self, needed: impl IntoIterator<Item = &'a str>) -> Self {
        let needed: Vec<&str> = needed.into_iter().collect();
        self.columns.retain(|name, _| needed.contains(&name.as_str()));
        for columns in self.publications.values_mut().filter_map(|publication| publication.columns.as_mut()) {
            columns.retain(|name| needed.contains(&name.as_str()));
        }
        self
    }

    /// Describes the differences, one sentence each. Empty: the windows are as right as before.
    ///
    /// A column that only one of the two contracts needs does not count, because a new rule has no windows yet.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |what: &str, then: &str, now: &str| {
            if then != now {
                found.push(format!("{what} was {then} and is {now}"));
            }
        };
        note("the server (system identifier and timeline)", &self.server, &now.server);
        note("the database", &self.database, &now.database);
        note("the table's OID", &self.relation.to_string(), &now.relation.to_string());
        for (name, column) in &self.columns {
            let Some(now) = now.columns.get(name) else { continue };
            note(&format!("column {name}"), &column.text(), &now.text());
        }
        note("the primary key", &self.primary_key, &now.primary_key);
        note("the replica identity", &self.replica_identity, &now.replica_identity);
        note("partitioned", yes(self.is_partitioned), yes(now.is_partitioned));
        note("the list of inheriting tables", &list(&self.children), &list(&now.children));
        note("row-level security for this role", on(self.row_security), on(now.row_security));
        note("the publication", &publications(&self.publications), &publications(&now.publications));
        let rewritten = self.storage.iter().find(|(name, file)| now.storage.get(*name).is_some_and(|now| now != *file));
        let gone = self.storage.keys().find(|name| !now.storage.contains_key(*name));
        let new = now.storage.keys().find(|name| !self.storage.contains_key(*name));
        if let Some((name, _)) = rewritten {
            found.push(format!("{name} was rewritten or truncated"));
        }
        if self.relation == now.relation {
            found.extend(gone.map(|name| format!("{name} is no longer a part of the table")));
            found.extend(new.map(|name| format!("{name} has become a part of the table")));
        }
        found
    }

    /// The differences from a later read in the same run: those of [`Contract::differences`], and needed columns that
    /// are missing now.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let gone = self.columns.keys().filter(|name| !now.columns.contains_key(*name));
        let mut found: Vec<String> = gone.map(|name| format!("column {name} is gone")).collect();
        found.extend(self.differences(now));
        found
    }
}

impl ColumnContract {
    fn text(&self) -> String {
        let collation = self.collation.as_ref().map(|name| format!(" collate {name}")).unwrap_or_default();
        let generated = if self.is_generated { " generated" } else { "" };
        format!("{}{collation}{generated} (column {})", self.ty, self.number)
    }
}

impl Publication {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.columns.as_ref().map(|columns| format!("columns {}", list(columns))));
        parts.extend((!self.row_filters.is_empty()).then(|| format!("where {}", self.row_filters.join(" or "))));
        parts.extend(self.via_root.then(|| "via the root".to_owned()));
        parts.extend(self.generated.then(|| "with generated columns".to_owned()));
        if parts.is_empty() { "whole".to_owned() } else { parts.join(", ") }
    }
}

fn publications(all: &BTreeMap<String, Publication>) -> String {
    let texts: Vec<String> = all.iter().map(|(name, publication)| format!("{name} ({})", publication.text())).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "empty".to_owned() } else { names.join(", ") }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(ty: &str, number: i32) -> ColumnContract {
        ColumnContract { ty: ty.to_owned(), number, ..ColumnContract::default() }
    }

    fn contract() -> Contract {
        Contract {
            server: "7/1".to_owned(),
            relation: 16_400,
            storage: BTreeMap::from([("public.t".to_owned(), 16_400)]),
            columns: BTreeMap::from([
                ("id".to_owned(), column("bigint", 1)),
                ("amount".to_owned(), column("numeric(,2)", 3)),
            ]),
            primary_key: "id".to_owned(),
            replica_identity: "default".to_owned(),
            publications: BTreeMap::from([("p".to_owned(), Publication::default())]),
            ..Contract::default()
        }
    }

    #[test]
    fn each_part_is_compared() {
        let check = |change: fn(&mut Contract), want: &str| {
            let mut now = contract();
            change(&mut now);
            assert_eq!(contract().differences(&now), [want]);
        };
        assert_eq!(contract().differences(&contract()), [""; 0]);
        check(|now| now.server = "8/1".to_owned(), "the server (system identifier and timeline) was 7/1 and is 8/1");
        check(
            |now| drop(now.columns.insert("amount".to_owned(), column("numeric(,4)", 3))),
            "column amount was numeric(,2) (column 3) and is numeric(,4) (column 3)",
        );
        check(|now| now.primary_key = "id, line".to_owned(), "the primary key was id and is id, line");
        check(|now| now.replica_identity = "full".to_owned(), "the replica identity was default and is full");
        check(|now| now.row_security = true, "row-level security for this role was off and is on");
        check(|now| now.children.push("c".to_owned()), "the list of inheriting tables was empty and is c");
        check(
            |now| now.publications.values_mut().for_each(|p| p.row_filters.push("(amount > 0)".to_owned())),
            "the publication was p (whole) and is p (where (amount > 0))",
        );
        let file = |now: &mut Contract, name: &str| {
            now.storage.insert(name.to_owned(), 9);
        };
        let mut now = contract();
        file(&mut now, "public.t");
        assert_eq!(contract().differences(&now), ["public.t was rewritten or truncated"]);
        let mut now = contract();
        file(&mut now, "public.t_1");
        assert_eq!(contract().differences(&now), ["public.t_1 has become a part of the table"]);
    }

    #[test]
    fn each_table_is_compared_by_its_name() {
        let of = |names: &[&str]| Contracts(names.iter().map(|name| ((*name).to_owned(), contract())).collect());
        let mut now = of(&["s.a", "s.b"]);
        assert_eq!(of(&["s.a"]).differences(&now), [""; 0], "one that is new has no windows yet");
        if let Some(of_b) = now.0.get_mut("s.b") {
            of_b.row_security = true;
            of_b.relation = 7;
        }
        let text = of(&["s.a", "s.b"]).differences(&now);
        assert!(text.iter().all(|text| text.starts_with("s.b: ")) && text.len() == 2, "{text:?}");
        let unnamed = Contract { relation: 7, ..contract() };
        assert_eq!(now.named(unnamed.clone()), Contracts([("s.b".to_owned(), unnamed)].into()));
    }

    #[test]
    fn a_column_that_one_side_does_not_need_is_no_difference() {
        let (mut then, now) = (contract(), contract());
        then.columns.remove("amount");
        assert_eq!(then.differences(&now), [""; 0]);
        assert_eq!(now.differences(&then), [""; 0]);
        assert_eq!(contract().of_columns(["id"]).columns.len(), 1);
        // This does not hold for a look of the same run.
        let mut now = contract();
        now.columns.remove("amount");
        assert_eq!(contract().changes(&now), ["column amount is gone"]);
    }
}
