//! Finds the gaps in a table's stream of changes, and the properties that forbid to begin. Pure.

use super::Contract;

/// Returns the reasons why this table cannot be read at all, each with what to do about it.
///
/// The needed columns are those of the contract.
pub fn refusals(contract: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    if contract.row_security {
        found.push(
            "row-level security hides rows of the table from this role, so Postgres would refute what is true: grant the role BYPASSRLS, or give it a policy that shows all rows and run ALTER TABLE … NO FORCE ROW LEVEL SECURITY as its owner"
                .to_owned(),
        );
    }
    let published = &contract.publications;
    for (name, column) in &contract.columns {
        if column.is_generated && !published.values().any(|publication| publication.generated) {
            found.push(format!(
                "column {name} is generated, and Postgres does not stream generated columns: write the rule with the columns that it is made of, or store the value in a plain column"
            ));
            continue;
        }
        let lacks = |publication: &&super::Publication| {
            publication.columns.as_ref().is_some_and(|columns| !columns.contains(name))
        };
        if !published.is_empty() && published.values().all(|publication| lacks(&publication)) {
            let names: Vec<&str> = published.keys().map(String::as_str).collect();
            found.push(format!(
                "publication {} leaves out column {name}, so its values never come: add it to the publication's list of columns (ALTER PUBLICATION … SET TABLE)",
                names.join(", ")
            ));
        }
    }
    found
}

/// Returns the changes of the table that the stream cannot bring. The windows are filled from the table's own rows, and
/// the audit watches for later differences.
pub fn gaps(contract: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    for (name, publication) in &contract.publications {
        if !publication.row_filters.is_empty() {
            found.push(format!(
                "publication {name} has a row filter, {}: changes of other rows never come; remove it with ALTER PUBLICATION {name} SET TABLE",
                publication.row_filters.join(" or ")
            ));
        }
        if contract.is_partitioned && !publication.via_root {
            found.push(format!(
                "publication {name} publishes partitions under their own names, so their changes are not read as this table's: set publish_via_partition_root = true"
            ));
        }
    }
    if !contract.children.is_empty() {
        found.push(format!(
            "the table has children by INHERITS ({}), whose changes go to topics of their own",
            contract.children.join(", ")
        ));
    }
    if contract.replica_identity.starts_with("index")
        && contract.replica_identity != format!("index {}", contract.primary_key)
    {
        found.push(format!(
            "the replica identity is {}: deletes do not name the primary key; set REPLICA IDENTITY DEFAULT",
            contract.replica_identity
        ));
    }
    if contract.replica_identity == "nothing" {
        found.push("the replica identity is NOTHING: deletes never come; set REPLICA IDENTITY DEFAULT".to_owned());
    }
    if contract.primary_key.ends_with(" deferrable") {
        found.push(
            "the primary key is deferrable, so it is no replica identity: deletes do not name their row".to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{ColumnContract, Publication};
    use super::*;

    fn contract() -> Contract {
        Contract {
            columns: BTreeMap::from([("amount".to_owned(), ColumnContract::default())]),
            publications: BTreeMap::from([("p".to_owned(), Publication::default())]),
            primary_key: "id".to_owned(),
            replica_identity: "default".to_owned(),
            ..Contract::default()
        }
    }

    #[test]
    fn refusals_and_gaps() {
        let check = |change: fn(&mut Contract), refused: usize, missing: usize| {
            let mut contract = contract();
            change(&mut contract);
            let (refusals, gaps) = (refusals(&contract), gaps(&contract));
            assert_eq!((refusals.len(), gaps.len()), (refused, missing), "{refusals:?} {gaps:?}");
        };
        let publication = |contract: &mut Contract, change: fn(&mut Publication)| {
            contract.publications.values_mut().for_each(change);
        };
        check(|_| {}, 0, 0);
        check(|contract| contract.row_security = true, 1, 0);
        check(|contract| contract.columns.values_mut().for_each(|column| column.is_generated = true), 1, 0);
        check(
            |contract| contract.publications.values_mut().for_each(|p| p.columns = Some(vec!["id".to_owned()])),
            1,
            0,
        );
        check(
            |contract| {
                contract.publications.values_mut().for_each(|p| p.columns = Some(vec!["id".to_owned()]));
                contract.publications.insert("all".to_owned(), Publication::default());
            },
            0,
            0,
        );
        let mut with_generated = contract();
        with_generated.columns.values_mut().for_each(|column| column.is_generated = true);
        publication(&mut with_generated, |publication| publication.generated = true);
        assert!(refusals(&with_generated).is_empty());
        check(|contract| contract.publications.values_mut().for_each(|p| p.row_filters = vec!["x".to_owned()]), 0, 1);
        check(|contract| contract.is_partitioned = true, 0, 1);
        check(|contract| contract.children = vec!["c".to_owned()], 0, 1);
        check(|contract| contract.replica_identity = "index code".to_owned(), 0, 1);
        check(|contract| contract.replica_identity = "index id".to_owned(), 0, 0);
        check(|contract| contract.replica_identity = "nothing".to_owned(), 0, 1);
        check(|contract| contract.primary_key = "id deferrable".to_owned(), 0, 1);
    }
}
