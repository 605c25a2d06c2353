//! Parts of rows that the connector leaves out or changes. Pure.

use regex_lite::Regex;

use super::super::facts::Connector;
use super::super::finding::{Finding, problem, warning};
use super::connect::At;
use crate::failure::Exit;
use crate::model::{ColumnType, Table};

/// Runs all these checks. `columns` is the table with the columns that the rules need.
pub(super) fn kept_back(at: &At<'_>, columns: Option<(&Table, &[usize])>) -> Vec<Finding> {
    let mut found: Vec<Finding> = columns.into_iter().flat_map(|columns| of_columns(at, columns)).collect();
    found.extend(snapshot(at, columns.map(|(table, _)| table)));
    found
}

/// Whether a list of regular expressions matches a name, as in Debezium: each is anchored, and case does not matter.
/// `None`: this program cannot parse one of them.
pub(super) fn is_listed(list: &str, name: &str) -> Option<bool> {
    // A comma within an expression is escaped.
    let marked = list.replace("\\,", "\u{0}");
    let mut all_read = true;
    for part in marked.split(',').map(|part| part.replace('\u{0}', ",")).filter(|part| !part.trim().is_empty()) {
        match Regex::new(&format!("(?i)^(?:{})$", part.trim())) {
            Ok(regex) if regex.is_match(name) => return Some(true),
            Ok(_) => {}
            Err(_) => all_read = false,
        }
    }
    all_read.then_some(false)
}

/// The name of a setting without the salt, which some names contain.
fn shown(setting: &str) -> &str {
    setting.split_once(".with.salt.").map_or(setting, |(name, _)| name)
}

/// Returns findings for columns that are left out, masked or cut.
fn of_columns(at: &At<'_>, (table, wanted): (&Table, &[usize])) -> Vec<Finding> {
    let needed = super::sent::needed(Some((table, wanted)));
    let full = |column: &str| format!("{}.{}.{column}", table.schema, table.name);
    // The needed columns that a setting affects, and whether that is certain.
    let hit = |list: &str, is_hit: &dyn Fn(Option<bool>) -> Option<bool>, cut: bool| {
        let mut sure = true;
        let columns = needed.iter().filter(|column| {
            let ty = table.columns.iter().find(|found| found.name == **column).map(|found| &found.ty);
            if cut && !matches!(ty, Some(ColumnType::Text | ColumnType::Char | ColumnType::Other)) {
                return false;
            }
            let hit = is_hit(is_listed(list, &full(column)));
            sure &= hit.is_some();
            hit.unwrap_or(true)
        });
        let columns: Vec<&str> = columns.copied().collect();
        (columns, sure)
    };
    let mut found = Vec::new();
    for (setting, list) in &at.connector.config {
        let (how, (columns, sure)) = match setting.as_str() {
            "column.exclude.list" | "column.blacklist" => ("leaves out", hit(list, &|listed| listed, false)),
            "column.include.list" | "column.whitelist" => {
                ("leaves out", hit(list, &|listed| listed.map(|is| !is), false))
            }
            name if name.starts_with("column.mask.") => ("masks", hit(list, &|listed| listed, false)),
            name if name.starts_with("column.truncate.to.") => ("cuts", hit(list, &|listed| listed, true)),
            _ => continue,
        };
        if columns.is_empty() {
            continue;
        }
        let name = shown(setting);
        let columns = columns.join(", ");
        let fix = if name == setting {
            at.change(&format!("del(.\"{setting}\")"))
        } else {
            // The full name is not shown, because it contains a salt.
            at.change(&format!("with_entries(select(.key | startswith(\"{name}\") | not))"))
        };
        let fix = format!("{fix}; then read a topic that has been written without it");
        found.push(if sure {
            let text = format!("{name} {how} what a rule needs: {columns}");
            problem("columns", text, fix).ends(Exit::Misconfigured)
        } else {
            warning(
                "columns",
                format!("{name} has an expression that cannot be read here; perhaps it {how} {columns}"),
                fix,
            )
        });
    }
    found
}

/// Checks whether the connector wrote the rows that existed before it.
fn snapshot(at: &At<'_>, table: Option<&Table>) -> Vec<Finding> {
    const CHECK: &str = "snapshot";
    let Connector { config, .. } = at.connector;
    let before = "rows from before the connector are not in the topic";
    let fix = "nothing, if the table was empty then; else take an incremental snapshot of the table (execute-snapshot by Debezium's signals)";
    let mut found = Vec::new();
    let mode = at.connector.setting("snapshot.mode", "initial");
    let without_data = match mode {
        "no_data" | "schema_only" | "never" => true,
        "configuration_based" => {
            at.connector.setting("snapshot.mode.configuration.based.snapshot.data", "false") != "true"
        }
        _ => false,
    };
    if without_data {
        found.push(warning(CHECK, format!("snapshot.mode={mode}: {before}"), fix));
    }
    let Some(table) = table else { return found };
    let name = format!("{}.{}", table.schema, table.name);
    if let Some(list) = config.get("snapshot.include.collection.list")
        && !list.trim().is_empty()
        && is_listed(list, &name) == Some(false)
    {
        found.push(warning(CHECK, format!("snapshot.include.collection.list is without {name}: {before}"), fix));
    }
    if let Some(list) = config.get("snapshot.select.statement.overrides")
        && list.split(',').any(|listed| listed.trim() == name)
    {
        let text =
            format!("snapshot.select.statement.overrides has {name}: the rows that it leaves out are not in the topic");
        found.push(warning(CHECK, text, fix));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Grade;
    use super::*;
    use crate::model::Column;

    fn found(pairs: &[(&str, &str)]) -> Vec<Finding> {
        let column = |name: &str, ty: ColumnType| Column {
            name: name.to_owned(),
            ty,
            type_name: "x".to_owned(),
            nullable: false,
            has_default: false,
        };
        let columns = vec![
            column("id", ColumnType::Int8),
            column("user", ColumnType::Text),
            column("amount", ColumnType::Int8),
            column("note", ColumnType::Text),
        ];
        let table = Table { schema: "s".to_owned(), name: "t".to_owned(), columns, primary_key: vec![0] };
        let config = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let connector = Connector { name: "c".to_owned(), config, ..Connector::default() };
        kept_back(&At { base: "http://c", connector: &connector }, Some((&table, &[1, 2])))
    }

    fn one(pairs: &[(&str, &str)], grade: Grade, text: &str, fix: &str) {
        let found = found(pairs);
        assert_eq!(found.len(), 1, "{pairs:?}: {found:#?}");
        assert_eq!(found[0].grade, grade, "{found:#?}");
        assert!(found[0].text.contains(text), "no {text:?} in {found:#?}");
        assert!(found[0].fix.as_deref().unwrap_or_default().contains(fix), "no {fix:?} in {found:#?}");
    }

    #[test]
    fn lists_of_expressions() {
        let check =
            |list: &str, name: &str, want: Option<bool>| assert_eq!(is_listed(list, name), want, "{list} {name}");
        check("s.t.a", "s.t.a", Some(true));
        check("s\\.t\\.A , x", "s.t.a", Some(true));
        check("s.t", "s.t.a", Some(false)); // anchored
        check(".*\\.(a|b)", "s.t.b", Some(true));
        check("s.t.a{1\\,2}", "s.t.aa", Some(true));
        check("", "s.t.a", Some(false));
        check("(?=x)a", "s.t.a", None); // Java has more
        check("(?=x)a,s.t.a", "s.t.a", Some(true));
    }

    #[test]
    fn columns_that_do_not_come() {
        let problem = Grade::Problem;
        one(
            &[("column.exclude.list", "s.t.user")],
            problem,
            "column.exclude.list leaves out what a rule needs: user",
            "del(.\"column.exclude.list\")",
        );
        one(&[("column.include.list", "s.t.(id|amount)")], problem, "leaves out what a rule needs: user", "del(");
        one(&[("column.mask.with.5.chars", ".*\\.user")], problem, "column.mask.with.5.chars masks", "del(");
        let salted = "column.mask.hash.SHA-256.with.salt.pepper";
        one(&[(salted, "s.t.user")], problem, "column.mask.hash.SHA-256 masks what a rule needs: user", "startswith(");
        assert!(!format!("{:?}", found(&[(salted, "s.t.user")])).contains("pepper"));
        one(&[("column.truncate.to.3.chars", "s.t.*")], problem, "cuts what a rule needs: user", "del(");
        one(&[("column.exclude.list", "(?!x).*")], Grade::Warning, "cannot be read here", "del(");
        for harmless in [
            ("column.exclude.list", "s.t.note,s.u.user"),
            ("column.include.list", "s\\.t\\..*"),
            ("column.truncate.to.3.chars", "s.t.amount"),
            ("column.propagate.source.type", "s.t.user"),
        ] {
            assert_eq!(found(&[harmless]), [], "{harmless:?}");
        }
    }

    #[test]
    fn rows_that_did_not_come() {
        for mode in ["no_data", "schema_only", "never", "configuration_based"] {
            one(&[("snapshot.mode", mode)], Grade::Warning, &format!("snapshot.mode={mode}"), "incremental snapshot");
        }
        let data = ("snapshot.mode.configuration.based.snapshot.data", "true");
        assert_eq!(found(&[("snapshot.mode", "configuration_based"), data]), []);
        for mode in ["initial", "always", "initial_only", "when_needed"] {
            assert_eq!(found(&[("snapshot.mode", mode)]), []);
        }
        one(&[("snapshot.include.collection.list", "s.u")], Grade::Warning, "is without s.t", "incremental");
        assert_eq!(found(&[("snapshot.include.collection.list", "s.*")]), []);
        one(&[("snapshot.select.statement.overrides", "s.u, s.t")], Grade::Warning, "overrides has s.t", "incremental");
    }
}
