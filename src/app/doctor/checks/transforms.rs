//! The version of the connector, and the transform that unwraps its records. Pure.

use super::super::facts::Connector;
use super::super::finding::{Finding, ok, problem, warning};
use super::connect::At;
use crate::model::Table;

/// The oldest version that is tested.
const OLDEST: (u32, u32) = (2, 7);

/// Returns the first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn major(connector: &Connector) -> Option<u32> {
    connector.version.as_deref().and_then(numbers).map(|(major, _)| major)
}

/// Checks the connector's version. `None` where the worker does not report it.
pub(super) fn version(
    connector: &Connector,
    table: Option<(&str, &str)>,
    columns: Option<(&Table, &[usize])>,
) -> Option<Finding> {
    const CHECK: &str = "connector.version";
    let version = connector.version.as_deref()?;
    let found = numbers(version)?;
    let names = table.into_iter().flat_map(|(schema, name)| [schema, name]);
    let columns = columns.into_iter().flat_map(|(table, _)| table.columns.iter().map(|column| column.name.as_str()));
    let garbled = names.chain(columns).find(|name| !name.is_ascii()).filter(|_| found < (3, 0));
    Some(match garbled {
        Some(name) => problem(
            CHECK,
            format!(
                "Debezium {version} reads the name {name:?} wrong, since it is not ASCII: changes do not come, or without that column"
            ),
            "install Debezium 3 or later",
        ),
        None if found < OLDEST => {
            let text = format!("Debezium {version} is older than {}.{}, the oldest that is tested", OLDEST.0, OLDEST.1);
            warning(CHECK, text, "install a newer Debezium")
        }
        None => ok(CHECK, format!("Debezium {version}")),
    })
}

/// Returns findings for data that the unwrapping transform removes and does not add again.
pub(super) fn unwrapped(at: &At<'_>) -> Vec<Finding> {
    const CHECK: &str = "transforms";
    let names: Vec<&str> = at.connector.setting("transforms", "").split(',').map(str::trim).collect();
    let unwraps =
        |name: &&&str| at.connector.setting(&format!("transforms.{name}.type"), "").contains("ExtractNewRecordState");
    let Some(unwrap) = names.iter().find(unwraps) else { return Vec::new() };
    let own = |name: &str| format!("transforms.{unwrap}.{name}");
    let mut found = Vec::new();
    let mode = own("delete.tombstone.handling.mode");
    let lost = match at.connector.config.get(&mode).map(String::as_str) {
        Some("drop") => Some(format!(
            "{mode}=drop: deleted rows stay in memory until the audit finds them; an archive lacks the deletes"
        )),
        None if major(at.connector).is_none_or(|major| major < 3) => {
            Some(format!("{mode} is not set: Debezium before version 3 leaves deletes out then"))
        }
        _ => None,
    };
    found.extend(lost.map(|text| warning(CHECK, text, at.set(&mode, "rewrite"))));
    let fields = own("add.fields");
    let added: Vec<&str> = at.connector.setting(&fields, "").split(',').map(str::trim).collect();
    let lacking = |wanted: &[&'static str]| {
        let is_added = |name: &&&str| added.iter().any(|added| added.trim_start_matches("source.") == **name);
        wanted.iter().filter(|name| !is_added(name)).copied().collect::<Vec<_>>().join(", ")
    };
    let (order, table) = (lacking(&["op", "lsn", "txId"]), lacking(&["schema", "table"]));
    if may_be_shared(at.connector) && !table.is_empty() {
        let text = format!(
            "transform {unwrap} unwraps records without {table}, and the connector may write several tables to one topic: rows \
             of another table would be taken for rows of this one"
        );
        let fix = at.set(&fields, "op,lsn,txId,source.ts_us,source.schema,source.table");
        found.push(problem(CHECK, text, fix));
    } else if !order.is_empty() {
        let text = format!(
            "transform {unwrap} unwraps records without {order}: repetitions count as changes, and a confirmation cannot know \
             whether Postgres already shows a change"
        );
        found.push(warning(CHECK, text, at.set(&fields, "op,lsn,txId,source.ts_us")));
    } else if found.is_empty() {
        found.push(ok(CHECK, format!("transform {unwrap} unwraps records, and adds what orders and confirms them")));
    }
    found
}

/// Whether a connector reads more than one table and a transform may write them to one topic.
fn may_be_shared(connector: &Connector) -> bool {
    let tables = connector.setting("table.include.list", "");
    let takes_one = !tables.is_empty() && !tables.contains([',', '*', '|', '[', '+', '?']);
    let routes = connector.config.iter().any(|(name, value)| {
        let is_router = ["RegexRouter", "ByLogicalTableRouter"].iter().any(|router| value.ends_with(router));
        name.starts_with("transforms.") && name.ends_with(".type") && is_router
    });
    routes && !takes_one
}
