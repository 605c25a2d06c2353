//! Checks of the database: the server, the table, and the publication and slot of its changes. Pure.

use super::super::facts::{Connector, DatabaseFacts, Publication, Relation, Slot};
use super::super::finding::{Finding, Grade, ok, problem, warning};
use super::sent;
use crate::config::{Config, redact_url};
use crate::failure::{Exit, Failure};
use crate::model::Table;
use crate::rule::render::quote_ident;
use crate::snapshot::{OLDEST_SERVER, OLDEST_TESTED};

/// The limit on the WAL that the slot's reader has not confirmed, in bytes. Beyond it the connector does not keep up,
/// or does not confirm.
const SLOT_LAG_MAX: i64 = 1 << 30;

/// A table's full name as SQL writes it.
pub(in crate::app::doctor) fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Runs all checks of the database except those of the rules.
pub(in crate::app::doctor) fn database(
    config: &Config,
    answered: Result<&DatabaseFacts, &Failure>,
    table: (&str, &str),
    connector: Option<&Connector>,
    columns: Option<(&Table, &[usize])>,
) -> Vec<Finding> {
    let url = redact_url(&config.postgres.url);
    let database = match answered {
        Ok(database) => database,
        Err(Failure { exit, message, .. }) => {
            let fix = match exit {
                Exit::Refused => "correct user and password of postgres.url (TRIPLINE__POSTGRES__URL), and pg_hba.conf",
                Exit::Misconfigured => "correct the database's name in postgres.url",
                _ => "start Postgres, or correct postgres.url",
            };
            return vec![problem("postgres", format!("Postgres at {url}: {message}"), fix).ends(*exit)];
        }
    };
    let mut found = vec![server(&url, database)];
    found.push(if database.standby {
        let text = "it is a standby: its snapshots name transactions as done that cannot be seen there";
        problem("postgres.primary", text, "point postgres.url at the primary").ends(Exit::Misconfigured)
    } else {
        ok("postgres.primary", "it is the primary")
    });
    found.push(match database.wal_level.as_str() {
        "logical" => ok("postgres.wal_level", "wal_level is logical"),
        level => problem(
            "postgres.wal_level",
            format!("wal_level is {level}: Debezium cannot read changes"),
            "ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres",
        ),
    });
    let Some(relation) = &database.relation else {
        let text = format!("{} (database {})", database.instead, database.name);
        let fix = "correct FROM in the rule, or the database in postgres.url";
        found.push(problem("table", text, fix).ends(Exit::Misconfigured));
        return found;
    };
    found.extend(relation_findings(database, relation, table));
    found.extend(sent::table(database, relation, table));
    found.extend(publication(database, relation, table, connector, &sent::needed(columns)));
    found.push(slot(database, connector));
    if connector.is_none() && found.last().is_some_and(|slot| slot.grade == Grade::Ok) {
        let idle = database.slots.iter().filter(|slot| !slot.active);
        found.extend(idle.map(|slot| {
            let fix = format!("SELECT pg_drop_replication_slot({}), if it is nobody's any more", literal(&slot.name));
            warning("slot", format!("nobody reads slot {}: it keeps WAL", slot.name), fix)
        }));
    }
    found
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn relation_findings(database: &DatabaseFacts, relation: &Relation, (schema, name): (&str, &str)) -> Vec<Finding> {
    let full = quoted(schema, name);
    let role = quote_ident(&database.role);
    let mut found = vec![ok("table", format!("{schema}.{name} is there, {} MiB", relation.bytes / 1_048_576))];
    found.push(match &relation.table {
        Some(_) => ok("table.key", "it has a primary key"),
        None => problem(
            "table.key",
            format!("{schema}.{name} has no primary key: updates and deletes could not be told apart"),
            format!("ALTER TABLE {full} ADD COLUMN tripline_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY; or ADD PRIMARY KEY on the columns that identify a row"),
        )
        .ends(Exit::Misconfigured),
    });
    let default = format!("ALTER TABLE {full} REPLICA IDENTITY DEFAULT");
    found.push(match relation.identity.as_str() {
        "n" => problem(
            "table.identity",
            "REPLICA IDENTITY is NOTHING: updates and deletes come without a key, or are refused",
            default,
        ),
        "i" => warning(
            "table.identity",
            "REPLICA IDENTITY is an index: deletes bring its columns, which need not be the primary key",
            default,
        ),
        "f" => ok("table.identity", "REPLICA IDENTITY is FULL"),
        _ => ok("table.identity", "REPLICA IDENTITY is the primary key"),
    });
    let mut grants = Vec::new();
    if !relation.usage {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", quote_ident(schema)));
    }
    if !relation.select {
        grants.push(format!("GRANT SELECT ON {full} TO {role}"));
    }
    found.push(if grants.is_empty() {
        ok("table.rights", format!("role {} may read it", database.role))
    } else {
        let text = format!("role {} may not read {schema}.{name}", database.role);
        problem("table.rights", text, grants.join("; ")).ends(Exit::Refused)
    });
    found
}

fn publication(
    database: &DatabaseFacts,
    relation: &Relation,
    (schema, name): (&str, &str),
    connector: Option<&Connector>,
    needed: &[&str],
) -> Vec<Finding> {
    const CHECK: &str = "publication";
    let full = quoted(schema, name);
    let named = connector.map(|connector| connector.setting("publication.name", "dbz_publication"));
    if connector.is_some_and(|connector| connector.setting("plugin.name", "decoderbufs") != "pgoutput") {
        return vec![ok(CHECK, "the connector's plugin needs none")];
    }
    let found = match named {
        Some(named) => database.publications.iter().find(|publication| publication.name == named),
        None => database.publications.iter().find(|publication| publication.has_table),
    };
    let mut kept_back = Vec::new();
    let whole = match (found, named) {
        (None, Some(named)) => {
            let ident = quote_ident(named);
            problem(
                CHECK,
                format!("there is no publication {named}, which the connector reads"),
                format!("CREATE PUBLICATION {ident} FOR TABLE {full}"),
            )
        }
        (None, None) => problem(
            CHECK,
            format!("no publication of database {} has {schema}.{name}", database.name),
            format!("CREATE PUBLICATION dbz_publication FOR TABLE {full}"),
        ),
        (Some(Publication { name: publication, has_table: false, .. }), _) => problem(
            CHECK,
            format!("publication {publication} does not have {schema}.{name}: none of its changes come"),
            format!("ALTER PUBLICATION {} ADD TABLE {full}", quote_ident(publication)),
        ),
        (Some(Publication { name: publication, leaves_out, .. }), _) if !leaves_out.is_empty() => problem(
            CHECK,
            format!("publication {publication} leaves out: {}", leaves_out.join(", ")),
            format!(
                "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')",
                quote_ident(publication)
            ),
        ),
        (Some(publication), _) => {
            kept_back = sent::publication(relation, publication, (schema, name), needed);
            ok(CHECK, format!("{} has the table", publication.name))
        }
    };
    let mut found = vec![whole];
    found.extend(kept_back);
    found
}

fn slot(database: &DatabaseFacts, connector: Option<&Connector>) -> Finding {
    const CHECK: &str = "slot";
    let named = connector.map(|connector| connector.setting("slot.name", "debezium"));
    let found = match named {
        Some(named) => database.slots.iter().find(|slot| slot.name == named),
        // It is unknown which slot it is, so an active one is preferred.
        None => database.slots.iter().max_by_key(|slot| slot.active),
    };
    let Some(Slot { name, active, wal_status, lag }) = found else {
        let text = match named {
            Some(named) => {
                format!("there is no replication slot {named}: changes since it went are lost to the connector")
            }
            None => format!("database {} has no logical replication slot: no connector reads it", database.name),
        };
        let fix = "stop the connector, delete its offsets (PUT /connectors/NAME/stop, DELETE /connectors/NAME/offsets), and resume it: it makes the slot, and a snapshot";
        return problem(CHECK, text, fix);
    };
    let behind = lag.map(|lag| format!(", {} MiB behind", lag / 1_048_576)).unwrap_or_default();
    if wal_status == "lost" || wal_status == "unreserved" {
        return problem(
            CHECK,
            format!("slot {name} is {wal_status}{behind}: WAL that it needs is, or is about to be, removed"),
            format!(
                "ALTER SYSTEM SET max_slot_wal_keep_size = -1; where it is lost already: SELECT pg_drop_replication_slot({}), then a new snapshot",
                literal(name)
            ),
        );
    }
    if !active {
        let fix = "start the connector, or fix what its status says; the slot keeps WAL until then";
        return problem(CHECK, format!("nobody reads slot {name}{behind}"), fix);
    }
    if lag.is_some_and(|lag| lag > SLOT_LAG_MAX) {
        let fix = "set heartbeat.interval.ms in the connector, for a database where other tables change; else give the connector more room";
        return warning(CHECK, format!("slot {name} is active{behind}"), fix);
    }
    ok(CHECK, format!("slot {name} is active{behind}"))
}

/// Checks the server and its version.
fn server(url: &str, database: &DatabaseFacts) -> Finding {
    let text = format!("{url} answers, version {}, role {}", database.version, database.role);
    let major = database.version.split('.').next().and_then(|major| major.parse::<i32>().ok());
    match major {
        Some(major) if major < OLDEST_SERVER => {
            let fix = format!("use PostgreSQL {OLDEST_SERVER} or later");
            problem("postgres", format!("{text}: its snapshots cannot be read"), fix).ends(Exit::Misconfigured)
        }
        Some(major) if major < OLDEST_TESTED => {
            warning("postgres", text, format!("use PostgreSQL {OLDEST_TESTED} or later, which are tested"))
        }
        _ => ok("postgres", text),
    }
}
