//! The table of each source.

use super::{ParsedRule, reads, watched_table};
use crate::config::Source;

/// Returns schema and name of each source's table, in the order of the sources.
///
/// # Errors
/// A source's table is not known, no rule reads it, or two sources have the same table.
pub fn of_sources(sources: &[Source], rules: &[ParsedRule]) -> Result<Vec<(String, String)>, String> {
    let mut tables = Vec::with_capacity(sources.len());
    for source in sources {
        let table = of_source(source, sources.len() == 1, rules)?;
        if tables.contains(&table) {
            return Err(format!(
                "sources: {}.{} would be the table of two sources, one of which is topic {}: leave one out, or name its table",
                table.0, table.1, source.topic
            ));
        }
        tables.push(table);
    }
    Ok(tables)
}

fn of_source(source: &Source, is_only: bool, rules: &[ParsedRule]) -> Result<(String, String), String> {
    let topic = &source.topic;
    if let Some(table) = &source.table {
        let (schema, name) = table.split_once('.').unwrap_or_default();
        let table = (schema.to_owned(), name.to_owned());
        return if is_read(&table, rules) {
            Ok(table)
        } else {
            Err(format!(
                "no rule reads {schema}.{name}, the table of topic {topic}: correct table, or leave the source out"
            ))
        };
    }
    if is_only {
        return watched_table(topic, rules).ok_or_else(|| {
            format!(
                "Postgres may evaluate what memory does not, but no rule reads a table that the topic {topic} is named after, as in \
                 prefix.schema.table: no change would be seen"
            )
        });
    }
    named_after(topic).filter(|table| is_read(table, rules)).ok_or_else(|| {
        format!(
            "no rule reads a table that the topic {topic} is named after, as in prefix.schema.table: name the table in its [[sources]], as \
             in table = \"schema.name\", or leave the source out"
        )
    })
}

/// Returns the table in a topic's name: its last two parts.
pub(super) fn named_after(topic: &str) -> Option<(String, String)> {
    let (rest, table) = topic.rsplit_once('.')?;
    Some((rest.rsplit('.').next().unwrap_or(rest).to_owned(), table.to_owned()))
}

pub(super) fn is_read((schema, table): &(String, String), rules: &[ParsedRule]) -> bool {
    rules.iter().any(|rule| match rule {
        ParsedRule::Memory(parsed) => reads(parsed, schema, table),
        ParsedRule::Text(parsed, _) => parsed.reads(schema, table),
    })
}
