//! Checks of the parts of the table that the publication sends and that the role sees. A difference between the two
//! causes missing or refuted alerts. Pure.

use super::super::facts::{DatabaseFacts, Publication, Relation};
use super::super::finding::{Finding, problem};
use super::database::quoted;
use crate::failure::Exit;
use crate::model::{Column, Table};
use crate::rule::render::quote_ident;

/// Returns the names of the columns that the rules and the primary key need.
pub(super) fn needed<'a>(columns: Option<(&'a Table, &'a [usize])>) -> Vec<&'a str> {
    let Some((table, wanted)) = columns else { return Vec::new() };
    let name = |(index, column): (usize, &'a Column)| {
        let is_needed = wanted.contains(&index) || table.primary_key.contains(&index);
        is_needed.then_some(column.name.as_str())
    };
    table.columns.iter().enumerate().filter_map(name).collect()
}

/// Returns findings for rows that the table itself hides from the stream or from the role.
pub(super) fn table(database: &DatabaseFacts, relation: &Relation, (schema, name): (&str, &str)) -> Vec<Finding> {
    let (full, role) = (quoted(schema, name), quote_ident(&database.role));
    let mut found = Vec::new();
    if relation.row_security {
        let text = format!(
            "row-level security of {schema}.{name} is active for role {}: it sees other rows than the stream has, and would refute alerts that are right",
            database.role
        );
        let fix = format!("ALTER ROLE {role} BYPASSRLS");
        found.push(problem("table.row-security", text, fix).ends(Exit::Refused));
    }
    if !relation.children.is_empty() {
        let children = relation.children.join(", ");
        let text = format!(
            "{schema}.{name} has children by INHERITS: {children}. Postgres counts their rows as this table's, and their changes go to topics of their own"
        );
        let fix = format!(
            "ALTER TABLE {} NO INHERIT {full}, if their rows are not to count; else make it a partitioned table, published with publish_via_partition_root = true",
            relation.children.first().map_or("", String::as_str)
        );
        found.push(problem("table.children", text, fix));
    }
    found
}

/// Returns findings for rows and columns that the publication does not send. `needed` are the columns that must come.
pub(super) fn publication(
    relation: &Relation,
    publication: &Publication,
    (schema, name): (&str, &str),
    needed: &[&str],
) -> Vec<Finding> {
    let (full, ident) = (quoted(schema, name), quote_ident(&publication.name));
    let named = &publication.name;
    let again = format!("ALTER PUBLICATION {ident} DROP TABLE {full}; ALTER PUBLICATION {ident} ADD TABLE {full}");
    let snapshot = "then a new snapshot, for what has not come";
    let mut found = Vec::new();
    if relation.partitioned && !publication.via_root {
        let text = format!(
            "{schema}.{name} is partitioned, and publication {named} has publish_via_partition_root = false: changes come under the names of its partitions, to topics of their own"
        );
        let fix = format!(
            "ALTER PUBLICATION {ident} SET (publish_via_partition_root = true); then restart the connector, and take {snapshot}"
        );
        found.push(problem("publication.root", text, fix));
    }
    if let Some(root) = relation.root.as_deref().filter(|_| publication.via_root) {
        let text = format!(
            "{schema}.{name} is a partition of {root}, and publication {named} has publish_via_partition_root = true: its changes come as changes of {root}"
        );
        let fix = format!("FROM {root} in the rule, and the topic of {root} as source.topic");
        found.push(problem("publication.root", text, fix).ends(Exit::Misconfigured));
    }
    if let Some(filter) = &publication.row_filter {
        let text = format!(
            "publication {named} has a row filter for {schema}.{name}, WHERE {filter}: Postgres counts rows that the stream does not have"
        );
        found.push(problem("publication.filter", text, format!("{again}; {snapshot}")));
    }
    let is_generated = |column: &&&str| relation.generated.iter().any(|generated| generated == **column);
    if let Some(columns) = &publication.columns {
        let is_missing = |column: &&&str| !columns.iter().any(|sent| sent == **column);
        let missing: Vec<&str> =
            needed.iter().filter(|column| is_missing(column) && !is_generated(column)).copied().collect();
        if !missing.is_empty() {
            let text = format!(
                "publication {named} has a column list for {schema}.{name} that leaves out what is needed: {}",
                missing.join(", ")
            );
            found.push(problem("publication.columns", text, format!("{again}; {snapshot}")).ends(Exit::Misconfigured));
        }
    }
    let generated: Vec<&str> = needed.iter().filter(is_generated).copied().collect();
    if let Some(first) = generated.first().filter(|_| !publication.sends_generated) {
        let text = format!(
            "a rule needs {}, which Postgres generates: publication {named} does not send generated columns",
            generated.join(", ")
        );
        let fix = format!(
            "write the rule on the columns that it is made of; or ALTER TABLE {full} ALTER COLUMN {} DROP EXPRESSION, and have the application write it; from Postgres 18 on, ALTER PUBLICATION {ident} SET (publish_generated_columns = stored)",
            quote_ident(first)
        );
        found.push(problem("table.generated", text, fix).ends(Exit::Misconfigured));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks findings, with a part of the text and of the fix of each.
    fn check(found: &[Finding], want: &[(&str, &str, &str)]) {
        assert_eq!(found.len(), want.len(), "{found:#?}");
        for (finding, (check, text, fix)) in found.iter().zip(want) {
            assert_eq!(finding.check, *check);
            assert!(finding.text.contains(text), "no {text:?} in {finding:?}");
            assert!(finding.fix.as_deref().unwrap_or_default().contains(fix), "no {fix:?} in {finding:?}");
        }
    }

    #[test]
    fn what_the_table_keeps_back() {
        let database = DatabaseFacts { role: "r".to_owned(), ..DatabaseFacts::default() };
        let found = |relation: &Relation| table(&database, relation, ("s", "t"));
        check(&found(&Relation::default()), &[]);
        let secured = Relation { row_security: true, ..Relation::default() };
        check(&found(&secured), &[("table.row-security", "is active for role r", "ALTER ROLE \"r\" BYPASSRLS")]);
        assert_eq!(found(&secured)[0].exit, Exit::Refused);
        let parent = Relation { children: vec!["s.a".to_owned(), "s.b".to_owned()], ..Relation::default() };
        check(&found(&parent), &[("table.children", "INHERITS: s.a, s.b", "ALTER TABLE s.a NO INHERIT \"s\".\"t\"")]);
    }

    #[test]
    fn what_the_publication_keeps_back() {
        let found =
            |relation: &Relation, sent: &Publication| publication(relation, sent, ("s", "t"), &["id", "amount"]);
        let plain = Relation::default();
        let whole = Publication { name: "p".to_owned(), has_table: true, ..Publication::default() };
        check(&found(&plain, &whole), &[]);

        let partitioned = Relation { partitioned: true, ..Relation::default() };
        let via_root = Publication { via_root: true, ..whole.clone() };
        check(
            &found(&partitioned, &whole),
            &[("publication.root", "under the names of its partitions", "SET (publish_via_partition_root = true)")],
        );
        check(&found(&partitioned, &via_root), &[]);
        let leaf = Relation { root: Some("s.root".to_owned()), ..Relation::default() };
        check(&found(&leaf, &whole), &[]);
        check(&found(&leaf, &via_root), &[("publication.root", "a partition of s.root", "FROM s.root in the rule")]);

        let filtered = Publication { row_filter: Some("(amount > 5)".to_owned()), ..whole.clone() };
        let again = "DROP TABLE \"s\".\"t\"; ALTER PUBLICATION \"p\" ADD TABLE \"s\".\"t\"";
        check(&found(&plain, &filtered), &[("publication.filter", "WHERE (amount > 5)", again)]);

        let listed = |columns: &[&str]| Publication {
            columns: Some(columns.iter().map(|column| (*column).to_owned()).collect()),
            ..whole.clone()
        };
        check(&found(&plain, &listed(&["amount", "id", "x"])), &[]);
        check(&found(&plain, &listed(&["id"])), &[("publication.columns", "leaves out what is needed: amount", again)]);

        let generated = Relation { generated: vec!["amount".to_owned(), "other".to_owned()], ..Relation::default() };
        let want = ("table.generated", "a rule needs amount", "ALTER COLUMN \"amount\" DROP EXPRESSION");
        check(&found(&generated, &whole), &[want]);
        check(&found(&generated, &listed(&["id"])), &[want]);
        check(&found(&generated, &Publication { sends_generated: true, ..whole.clone() }), &[]);
    }
}
