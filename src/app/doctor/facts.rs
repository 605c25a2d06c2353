//! The servers' answers as plain values, from which the checks are made. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::record::TopicRecord;
use crate::contract::Contract;
use crate::failure::Exit;
use crate::model::{NextOffset, Table};
use crate::rule::Query;

/// The cluster and its topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Broker {
    /// The number of brokers.
    pub(super) brokers: usize,
    /// The topic of changes, if it exists.
    pub(super) topic: Option<Topic>,
    /// The names of all topics that this client may see.
    pub(super) names: Vec<String>,
    /// The `cleanup.policy` of the topics in question, where the broker reports it.
    pub(super) cleanup: BTreeMap<String, String>,
    /// The topics that this user may not see, read or write although a run has to.
    pub(super) refused: BTreeMap<String, BTreeSet<Right>>,
    /// Whether this user may not use the group. Then nothing else could be asked.
    pub(super) group_refused: bool,
    /// Whether this user may describe the group but not join it.
    pub(super) group_unjoinable: bool,
    /// The transactional id of the group's runs.
    pub(super) transactional_id: String,
    /// The partitions where readers of committed records are held up. `None` where the broker does not report it.
    pub(super) held_up: Option<Vec<HeldUp>>,
}

/// The operations of a run on a topic, as Kafka's tools name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    Describe,
    Read,
    Write,
}

impl Right {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "DESCRIBE",
            Self::Read => "READ",
            Self::Write => "WRITE",
        }
    }
}

/// A partition whose last stable offset does not advance, because a transaction is open there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldUp {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The last stable offset, at which the transaction begins.
    pub(super) stable: NextOffset,
    /// The high watermark.
    pub(super) end: NextOffset,
}

/// The topic of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topic {
    /// The number of partitions.
    pub(super) partitions: usize,
    /// The newest records of each partition.
    pub(super) newest: Vec<TopicRecord>,
    /// Why the records could not be read.
    pub(super) unread: Option<Unread>,
}

/// Why records could not be read, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) text: String,
    pub(super) exit: Exit,
    pub(super) fix: &'static str,
}

/// A connector as Connect's REST interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) config: BTreeMap<String, String>,
    /// The version of its class as the worker reports it: `3.7.0.Final`.
    pub(super) version: Option<String>,
    pub(super) state: String,
    /// The stack trace of its failure.
    pub(super) trace: Option<String>,
    /// The state of each task, and the stack trace of its failure.
    pub(super) tasks: Vec<(String, Option<String>)>,
}

impl Connector {
    /// Returns one of the connector's settings, or `default` if it is not set.
    pub(super) fn setting<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.config.get(name).map_or(default, String::as_str)
    }
}

/// The database that confirms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DatabaseFacts {
    /// The name of the database.
    pub(super) name: String,
    /// The server's version as the server reports it.
    pub(super) version: String,
    /// The role of this session.
    pub(super) role: String,
    pub(super) standby: bool,
    pub(super) wal_level: String,
    /// How far the server's clock is ahead of this machine's, and the accuracy of that value, in microseconds.
    pub(super) ahead: (i64, i64),
    /// The rules' table, if it exists.
    pub(super) relation: Option<Relation>,
    /// A text that says what exists instead of the table, and what to do. Empty where the table exists.
    pub(super) instead: String,
    pub(super) publications: Vec<Publication>,
    /// The logical replication slots of this database.
    pub(super) slots: Vec<Slot>,
    /// The facts about the table and its server that a run relies on. `None` where there is no table.
    pub(super) contract: Option<Contract>,
}

/// The rules' table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// The table's columns and primary key. `None` if it has no primary key.
    pub(super) table: Option<Table>,
    /// `d`, `f`, `i` or `n`, as in `pg_class.relreplident`.
    pub(super) identity: String,
    pub(super) partitioned: bool,
    /// The number of bytes that a sequential scan reads.
    pub(super) bytes: i64,
    /// Whether the role has USAGE on the schema.
    pub(super) usage: bool,
    /// Whether the role may SELECT any of its columns.
    pub(super) select: bool,
    /// The first key column of every valid index without a condition. A search by that column can use the index.
    pub(super) index_leads: Vec<String>,
    /// Whether row-level security hides rows from the role.
    pub(super) row_security: bool,
    /// The tables that inherit from it and are not partitions, as SQL writes them.
    pub(super) children: Vec<String>,
    /// The table that this one is a partition of, as SQL writes it.
    pub(super) root: Option<String>,
    /// The generated columns.
    pub(super) generated: Vec<String>,
}

/// A publication of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) name: String,
    /// Whether it contains the table, or a partition of it.
    pub(super) has_table: bool,
    /// The operations that it leaves out: insert, update, delete.
    pub(super) leaves_out: Vec<String>,
    /// Whether changes of partitions have the name of the partitioned table.
    pub(super) via_root: bool,
    /// The condition on rows of the table, or of one of its partitions.
    pub(super) row_filter: Option<String>,
    /// The table's columns that are sent. `None` where the server does not report them.
    pub(super) columns: Option<Vec<String>>,
    /// Whether generated columns are sent as well.
    pub(super) sends_generated: bool,
}

/// A logical replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(super) wal_status: String,
    /// The bytes of WAL that its reader has not confirmed yet.
    pub(super) lag: Option<i64>,
}

/// The facts of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleFacts {
    pub(super) name: String,
    /// The problem with the rule, and the exit code for it.
    pub(super) wrong: Option<(String, Exit)>,
    /// Why a NULL may come as another value.
    pub(super) nulls: Option<String>,
    pub(super) query: Option<Query>,
    /// How Postgres alone evaluates the rule, if it does.
    pub(super) of_postgres: Option<String>,
    /// The plan of the rule's confirmation.
    pub(super) plan: Option<Result<Plan, String>>,
}

/// Postgres's plan for a confirmation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Whether it reads the whole table.
    pub(super) sequential: bool,
    /// The indexes that it uses.
    pub(super) indexes: Vec<String>,
}

impl Plan {
    /// Reads the lines of EXPLAIN.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut plan = Self::default();
        for line in lines {
            let node = line.trim_start().trim_start_matches("->").trim_start();
            let node = node.strip_prefix("Parallel ").unwrap_or(node);
            plan.sequential |= node.starts_with("Seq Scan on ");
            let used = ["Index Only Scan", "Index Scan"].iter().find_map(|scan| node.strip_prefix(scan));
            let used = used.map(|rest| rest.strip_prefix(" Backward").unwrap_or(rest));
            let used = used.and_then(|rest| rest.strip_prefix(" using "));
            if let Some(rest) = used.or_else(|| node.strip_prefix("Bitmap Index Scan on ")) {
                // The name ends where the name of its table, or the costs, begin.
                let end = rest.find(" on ").or_else(|| rest.find("  (")).unwrap_or(rest.len());
                plan.indexes.extend(rest.get(..end).map(str::to_owned));
            }
        }
        plan.indexes.sort_unstable();
        plan.indexes.dedup();
        plan
    }
}

/// The table of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AlertsTable {
    /// There is no table. `may_create`: whether the role may create it.
    Missing { may_create: bool },
    /// Migrations have to be run.
    Older,
    /// The table exists. `missing`: the grants that are missing.
    There { missing: Option<String> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let check = |text: &str, sequential: bool, indexes: &[&str]| {
            let plan = Plan::read(text.lines());
            assert_eq!(
                (plan.sequential, plan.indexes.iter().map(String::as_str).collect::<Vec<_>>()),
                (sequential, indexes.to_vec()),
                "{text}"
            );
        };
        check("Sort\n  ->  Seq Scan on transactions r  (cost=0.00..1)", true, &[]);
        check("Gather\n  ->  Parallel Seq Scan on \"T\" r", true, &[]);
        check("  ->  Index Only Scan using a_b on t r\n    Filter: (x = 'Seq Scan on t'::text)", false, &["a_b"]);
        check("  ->  Index Scan Backward using \"my idx\" on t r", false, &["my idx"].map(|_| "\"my idx\""));
        check(
            "Bitmap Heap Scan on t\n  ->  Bitmap Index Scan on t_i  (cost=1)\n  ->  Function Scan on unnest",
            false,
            &["t_i"],
        );
    }
}
