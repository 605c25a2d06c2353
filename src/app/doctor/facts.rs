//! What the servers said, as plain values: all that is judged. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::record::TopicRecord;
use crate::contract::Contract;
use crate::failure::Exit;
use crate::model::{NextOffset, Table};
use crate::rule::Query;

/// The cluster, and the topics there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Broker {
    /// How many brokers it has.
    pub(super) brokers: usize,
    /// The topic of changes, if it is there.
    pub(super) topic: Option<Topic>,
    /// Names of all topics that this client may see.
    pub(super) names: Vec<String>,
    /// `cleanup.policy` of the topics that were asked about, where the broker tells.
    pub(super) cleanup: BTreeMap<String, String>,
    /// Topics that this user may not see, read or write, though it has to.
    pub(super) refused: BTreeMap<String, BTreeSet<Right>>,
    /// Whether this user may not use the group, so that nothing else could be asked.
    pub(super) group_refused: bool,
    /// Whether this user may ask about the group and not join it.
    pub(super) group_unjoinable: bool,
    /// The transactional id of the group's runs.
    pub(super) transactional_id: String,
    /// Where readers of committed records stand still; `None` where the broker does not tell.
    pub(super) held_up: Option<Vec<HeldUp>>,
}

/// What a run does with a topic, as Kafka's tools name it.
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

/// A partition whose last stable offset stands still, since a transaction is open there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldUp {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The last stable offset: where the transaction begins.
    pub(super) stable: NextOffset,
    /// The high watermark.
    pub(super) end: NextOffset,
}

/// The topic of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topic {
    /// How many partitions it has.
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

/// A connector, as Connect's REST interface tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) config: BTreeMap<String, String>,
    /// Of its class, as the worker says it: `3.7.0.Final`.
    pub(super) version: Option<String>,
    pub(super) state: String,
    /// Why it failed.
    pub(super) trace: Option<String>,
    /// State of each task, and why it failed.
    pub(super) tasks: Vec<(String, Option<String>)>,
}

impl Connector {
    /// A setting of its own; `default` where it is not set.
    pub(super) fn setting<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.config.get(name).map_or(default, String::as_str)
    }
}

/// The database that confirms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DatabaseFacts {
    /// Its name.
    pub(super) name: String,
    /// The server's version, as it says it.
    pub(super) version: String,
    /// The role that asks.
    pub(super) role: String,
    pub(super) standby: bool,
    pub(super) wal_level: String,
    /// How far its clock is ahead of this machine's, and how exactly that is known, in microseconds.
    pub(super) ahead: (i64, i64),
    /// The rules' table; `None` where there is none.
    pub(super) relation: Option<Relation>,
    /// What there is instead of the table, and what to do; empty where the table is there.
    pub(super) instead: String,
    pub(super) publications: Vec<Publication>,
    /// Logical replication slots of this database.
    pub(super) slots: Vec<Slot>,
    /// What a run believes of the table and its server; `None` where there is no table.
    pub(super) contract: Option<Contract>,
}

/// The rules' table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// With columns and primary key, unless it has none.
    pub(super) table: Option<Table>,
    /// `d`, `f`, `i` or `n`, as in `pg_class.relreplident`.
    pub(super) identity: String,
    pub(super) partitioned: bool,
    /// What a sequential scan reads.
    pub(super) bytes: i64,
    /// Whether the role has USAGE on the schema.
    pub(super) usage: bool,
    /// Whether the role may SELECT any of its columns.
    pub(super) select: bool,
    /// First key column of every whole, valid index: what a search by that column can use.
    pub(super) index_leads: Vec<String>,
    /// Whether row-level security hides rows from the role.
    pub(super) row_security: bool,
    /// Tables that inherit from it and are no partitions, as SQL writes them.
    pub(super) children: Vec<String>,
    /// The partitioned table that it is a partition of, as SQL writes it.
    pub(super) root: Option<String>,
    /// Columns that Postgres computes.
    pub(super) generated: Vec<String>,
}

/// A publication of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) name: String,
    /// Whether the table, or a partition of it, is in it.
    pub(super) has_table: bool,
    /// Which of insert, update and delete it leaves out.
    pub(super) leaves_out: Vec<String>,
    /// Whether changes of partitions come under the name of the partitioned table.
    pub(super) via_root: bool,
    /// The condition on rows of the table, or of one of its partitions.
    pub(super) row_filter: Option<String>,
    /// The columns that are sent of the table; `None` where the server does not say.
    pub(super) columns: Option<Vec<String>>,
    /// Whether computed columns are sent as well.
    pub(super) sends_generated: bool,
}

/// A logical replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(super) wal_status: String,
    /// WAL that its reader has not confirmed yet.
    pub(super) lag: Option<i64>,
}

/// A rule held against the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleFacts {
    pub(super) name: String,
    /// What is wrong with it, and how the process ends for that.
    pub(super) wrong: Option<(String, Exit)>,
    /// Why a NULL may come as something else.
    pub(super) nulls: Option<String>,
    pub(super) query: Option<Query>,
    /// How Postgres alone evaluates it, where it does.
    pub(super) of_postgres: Option<String>,
    /// What a confirmation of it does.
    pub(super) plan: Option<Result<Plan, String>>,
}

/// How Postgres runs a confirmation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// It reads the whole table.
    pub(super) sequential: bool,
    /// The indexes that it uses.
    pub(super) indexes: Vec<String>,
}

impl Plan {
    /// From the lines of EXPLAIN.
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
                // The name ends where its table, or the costs, begin.
                let end = rest.find(" on ").or_else(|| rest.find("  (")).unwrap_or(rest.len());
                plan.indexes.extend(rest.get(..end).map(str::to_owned));
            }
        }
        plan.indexes.sort_unstable();
        plan.indexes.dedup();
        plan
    }
}

/// Where alerts are written to in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AlertsTable {
    /// There is no table; whether the role may make it.
    Missing { may_create: bool },
    /// Migrations are to be run.
    Older,
    /// It is there; the grants that are missing.
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
