//! The tables whose changes are read, and the columns that the rules need. Pure.

use super::{Query, Rule, compile};
use crate::model::Table;

/// A table whose changes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The table by the catalog.
    pub table: Table,
    /// The topic of its changes.
    pub topic: String,
    /// The columns that the rules need and the decoder returns: indexes into the table's columns.
    pub wanted: Vec<usize>,
}

impl Watched {
    /// Creates a table with the columns that these rules need.
    pub fn of(table: &Table, topic: &str, rules: &[&Query]) -> Self {
        let own: Vec<&Query> =
            rules.iter().filter(|query| table.is(&query.table.schema, &query.table.name)).copied().collect();
        let mut wanted = compile::wanted(&own);
        let others = rules.iter().flat_map(|query| query.text.iter().flat_map(|text| &text.others));
        wanted.extend(
            others
                .filter(|other| table.is(&other.table.schema, &other.table.name))
                .flat_map(|other| other.touches.iter().flatten().copied()),
        );
        wanted.sort_unstable();
        wanted.dedup();
        Self { table: table.clone(), topic: topic.to_owned(), wanted }
    }

    /// Creates the table of rules that all have the same table. The decoder returns these columns.
    pub fn one(rules: &[Rule], wanted: &[usize]) -> Vec<Self> {
        let table = rules.first().map(|rule| rule.query.table.clone());
        table.into_iter().map(|table| Self { table, topic: String::new(), wanted: wanted.to_vec() }).collect()
    }

    /// Returns the names of the needed columns and of the primary key's columns.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        let columns = self.wanted.iter().chain(&self.table.primary_key);
        columns.filter_map(|index| self.table.columns.get(*index)).map(|column| column.name.as_str())
    }

    /// Returns the role of this table in a rule. `None`: none. 0: it is the table of the query. Greater: the place
    /// among the other tables that a text reads, counted from 1.
    pub fn place_in(&self, query: &Query) -> Option<usize> {
        if self.table.is(&query.table.schema, &query.table.name) {
            return Some(0);
        }
        let others = query.text.as_ref().map(|text| text.others.as_slice()).unwrap_or_default();
        others.iter().position(|other| self.table.is(&other.table.schema, &other.table.name)).map(|place| place + 1)
    }
}
