//! `[source]` and `[[sources]]`: the topics of changes, and how their records are read.

use super::reader::{Report, Section};
use super::{Source, SourceFormat, checks};

/// The greatest number of sources. Each has its own connections to the brokers.
const SOURCES_MAX: usize = 100;

/// Takes `[[sources]]` out of the root. Empty if there are none. Settings that an entry lacks are those of `[source]`.
pub(super) fn read(root: &mut Section<'_>, common: Option<&Source>, report: &Report) -> Option<Vec<Source>> {
    let tables = root.tables("sources")?;
    let count = tables.len();
    let mut sources = Vec::with_capacity(count);
    for (index, table) in tables.into_iter().enumerate() {
        let section = Section::new(table, format!("source {}: ", index + 1), report);
        sources.extend(common.and_then(|common| source(section, common)));
    }
    if count > SOURCES_MAX {
        root.problem(None, "sources", format!("has {count} entries; {SOURCES_MAX} are possible"));
    }
    for (index, one) in sources.iter().enumerate() {
        let before = sources.iter().take(index).enumerate();
        for (other, problem) in before.filter_map(|(number, other)| Some((number + 1, differ(one, other)?))) {
            report.add(
                None,
                &format!("source {}: {}", index + 1, problem.0),
                format!("{} (source {other})", problem.1),
            );
        }
    }
    (sources.len() == count).then_some(sources)
}

fn source(mut section: Section<'_>, common: &Source) -> Option<Source> {
    let topic = section.text("topic", checks::topic);
    if let Some(topic) = &topic {
        section.rename(|prefix| format!("{} ({topic}): ", prefix.trim_end_matches(": ")));
    }
    let table = section.text_if("table", checks::table);
    let format = section.choice_or("format", common.format);
    let decimals = section.choice_or("decimals", common.decimals);
    let times = section.choice_or("times", common.times);
    let binary = section.choice_or("binary", common.binary);
    let placeholder =
        section.text_or("unavailable_value_placeholder", &common.unavailable_value_placeholder, checks::any);
    let connector_keeps_nulls = section.flag_or("connector_keeps_nulls", common.connector_keeps_nulls);
    section.finish();
    Some(Source {
        topic: topic?,
        table,
        format: format?,
        decimals: decimals?,
        times: times?,
        binary: binary?,
        unavailable_value_placeholder: placeholder?,
        connector_keeps_nulls: connector_keeps_nulls?,
        ..common.clone()
    })
}

/// Returns why these two sources cannot be combined: the setting, and the problem.
fn differ(one: &Source, other: &Source) -> Option<(&'static str, String)> {
    if one.table.is_some() && one.table == other.table {
        return Some(("table", "is the table of another source too: leave one of them out".to_owned()));
    }
    if one.topic != other.topic {
        return None;
    }
    if one.table.is_none() || other.table.is_none() {
        return Some((
            "topic",
            "is that of another source too: then both name their table, as in table = \"schema.name\"".to_owned(),
        ));
    }
    if one.format != other.format {
        return Some(("format", "is another one than that of a source with the same topic".to_owned()));
    }
    if matches!(one.format, SourceFormat::JsonUnwrapped | SourceFormat::AvroUnwrapped) {
        let text = "two tables in one topic are kept apart by the envelope, which unwrapped records do not have: give each table a topic of its own";
        return Some(("format", text.to_owned()));
    }
    None
}
