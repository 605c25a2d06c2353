//! The tables whose changes are read, and which of their columns the rules need. Pure.

use super::{Query, Rule, compile, text::Touched};
use crate::model::Table;

/// A table whose changes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The table, as the catalog has it.
    pub table: Table,
    /// The topic that has its changes.
    pub topic: String,
    /// The columns that the rules need, and that its decoder yields: indexes into the table's columns.
    pub wanted: Vec<usize>,
}

impl Watched {
    /// A table with the columns that these rules need of it.
    pub fn of(table: &Table, topic: &str, rules: &[&Query]) -> Self {
        let own: Vec<&Query> = rules.iter().filter(|query| is(&query.table, table)).copied().collect();
        let mut wanted = compile::wanted(&own);
        let others = rules.iter().flat_map(|query| query.text.iter().flat_map(|text| &text.others));
        wanted.extend(others.filter(|other| other.is(table)).flat_map(|other| other.touches.iter().flatten().copied()));
        wanted.sort_unstable();
        wanted.dedup();
        Self { table: table.clone(), topic: topic.to_owned(), wanted }
    }

    /// The table of rules that are all on one, whose decoder yields these columns.
    pub fn one(rules: &[Rule], wanted: &[usize]) -> Vec<Self> {
        let table = rules.first().map(|rule| rule.query.table.clone());
        table.into_iter().map(|table| Self { table, topic: String::new(), wanted: wanted.to_vec() }).collect()
    }

    /// The columns that are needed, and those of the primary key, by name.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        let columns = self.wanted.iter().chain(&self.table.primary_key);
        columns.filter_map(|index| self.table.columns.get(*index)).map(|column| column.name.as_str())
    }

    /// What a change of this table is to a rule: nothing; or 0, where it is the table of its query, or the place among the others
    /// that a text reads, counted from 1.
    pub fn place_in(&self, query: &Query) -> Option<usize> {
        if is(&query.table, &self.table) {
            return Some(0);
        }
        let others = query.text.as_ref().map(|text| text.others.as_slice()).unwrap_or_default();
        others.iter().position(|other| other.is(&self.table)).map(|place| place + 1)
    }
}

impl Touched {
    /// Whether it is this table.
    pub fn is(&self, table: &Table) -> bool {
        self.table.schema == table.schema && self.table.name == table.name
    }
}

fn is(one: &Table, other: &Table) -> bool {
    one.schema == other.schema && one.name == other.name
}
