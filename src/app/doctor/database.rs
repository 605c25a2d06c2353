//! Questions to Postgres in a read-only session: the server, the table, the publication and slot, and each rule.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::checks::database::quoted;
use super::facts::{AlertsTable, DatabaseFacts, Plan, Publication, Relation, RuleFacts, Slot};
use crate::app::rules::{Compiled, ParsedRule, compile_any};
use crate::app::servers::rules_database;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RuleSettings, redact_url};
use crate::confirm::postgres::catalog::{self, CatalogError};
use crate::confirm::postgres::contract;
use crate::failure::{Exit, Failure};
use crate::model::{Table, Timestamp};
use crate::postgres::{Database, Sees, Session, kind, query, query_scalar};
use crate::rule::render::{self, Fragments};
use crate::rule::{Evaluate, Query, Time, compile};
use crate::sink::postgres::rights::{Found, rights};

/// Returns the facts of the database and of each rule.
pub(super) async fn database(
    config: &Config,
    clock: &SystemClock,
    table: (&str, &str),
    tables: &[(String, String)],
    rules: &[(&RuleSettings, &ParsedRule)],
) -> Result<(DatabaseFacts, Vec<RuleFacts>), Failure> {
    let of_source = table;
    let server = rules_database(&config.postgres)?;
    let mut connection = server.try_connect().await?;
    let mut transaction =
        server.begin(&mut connection, Sees::Newest, "UTC").await.map_err(|error| server.failed(error))?;
    let asked = ask(&mut transaction, clock, table).await;
    drop(transaction);
    let mut facts = Vec::new();
    if let Ok(DatabaseFacts {
        relation: Some(Relation { table: Some(table), usage: true, select: true, .. }), ..
    }) = &asked
    {
        let mut all = Vec::new();
        for (schema, name) in tables.iter().filter(|(schema, name)| (schema.as_str(), name.as_str()) != of_source) {
            let begun = server.begin(&mut connection, Sees::Newest, "UTC").await;
            let mut transaction = begun.map_err(|error| server.failed(error))?;
            // The checks of that source report what is wrong with its table.
            all.extend(catalog::table(&mut transaction, schema, name).await.ok());
        }
        all.insert(0, table.clone());
        for (settings, parsed) in rules {
            let begun = server.begin(&mut connection, Sees::Newest, "UTC").await;
            let mut transaction = begun.map_err(|error| server.failed(error))?;
            facts.push(rule(&mut transaction, config, settings, parsed, &all, clock.now()).await);
        }
    }
    let _ = connection.close().await;
    let asked = asked.map_err(|error| server.failed(error))?;
    Ok((asked, facts))
}

async fn ask(
    connection: &mut PgConnection,
    clock: &SystemClock,
    (schema, name): (&str, &str),
) -> Result<DatabaseFacts, sqlx::Error> {
    // The first statement of a session is slower than others.
    query("select 1").execute(&mut *connection).await?;
    let before = clock.now().0;
    let row = query(include_str!("server.sql")).fetch_one(&mut *connection).await?;
    let after = clock.now().0;
    let within = after.saturating_sub(before) / 2;
    let theirs: i64 = row.try_get("now_micros")?;
    let ahead = (theirs.saturating_sub(before.saturating_add(within)), within);
    let relation = query(include_str!("relation.sql")).bind(schema).bind(name);
    let mut instead = String::new();
    let relation = match relation.fetch_optional(&mut *connection).await? {
        None => {
            instead = match catalog::no_table(connection, schema, name).await {
                CatalogError::Connection(error) => return Err(error),
                other => other.to_string(),
            };
            None
        }
        Some(row) => {
            let table = match catalog::table(connection, schema, name).await {
                Ok(table) => Some(table),
                Err(CatalogError::Connection(error)) => return Err(error),
                Err(CatalogError::Rule(_) | CatalogError::Unfit(_)) => None, // without a primary key
            };
            Some(self::relation(&row, table)?)
        }
    };
    let publications = query(include_str!("publications.sql")).bind(schema).bind(name);
    let publications = publications.fetch_all(&mut *connection).await?;
    let slots = query(include_str!("slots.sql")).fetch_all(&mut *connection).await?;
    // This statement is the last one, because it fails on a standby and for a role with too few rights.
    let contract = contract::look(connection, schema, name).await.ok().flatten().map(|look| look.0);
    Ok(DatabaseFacts {
        name: row.try_get("database")?,
        version: row.try_get("version")?,
        role: row.try_get("role")?,
        standby: row.try_get("standby")?,
        wal_level: row.try_get("wal_level")?,
        ahead,
        relation,
        instead,
        publications: publications.iter().map(publication).collect::<Result<_, _>>()?,
        slots: slots.iter().map(slot).collect::<Result<_, _>>()?,
        contract,
    })
}

fn relation(row: &PgRow, table: Option<Table>) -> Result<Relation, sqlx::Error> {
    Ok(Relation {
        table,
        identity: row.try_get("identity")?,
        partitioned: row.try_get("partitioned")?,
        bytes: row.try_get("bytes")?,
        usage: row.try_get("may_use")?,
        select: row.try_get("may_select")?,
        index_leads: row.try_get("index_leads")?,
        row_security: row.try_get("row_security")?,
        children: row.try_get("children")?,
        root: row.try_get("root")?,
        generated: row.try_get("generated")?,
    })
}

fn publication(row: &PgRow) -> Result<Publication, sqlx::Error> {
    Ok(Publication {
        name: row.try_get("name")?,
        has_table: row.try_get("has_table")?,
        leaves_out: row.try_get("leaves_out")?,
        via_root: row.try_get("via_root")?,
        row_filter: row.try_get("row_filter")?,
        columns: row.try_get("columns")?,
        sends_generated: row.try_get("sends_generated")?,
    })
}

fn slot(row: &PgRow) -> Result<Slot, sqlx::Error> {
    Ok(Slot {
        name: row.try_get("name")?,
        active: row.try_get("active")?,
        wal_status: row.try_get("wal_status")?,
        lag: row.try_get("lag")?,
    })
}

async fn rule(
    connection: &mut PgConnection,
    config: &Config,
    settings: &RuleSettings,
    parsed: &ParsedRule,
    tables: &[Table],
    now: Timestamp,
) -> RuleFacts {
    let mut facts = RuleFacts { name: settings.name.clone(), ..RuleFacts::default() };
    match compile_any(connection, settings, parsed, tables).await {
        Err(CatalogError::Connection(error)) => {
            facts.wrong = Some((error.to_string(), kind(&error).policy().exit));
        }
        Err(error) => facts.wrong = Some((error.to_string(), Exit::Misconfigured)),
        Ok(Compiled { query, of_postgres }) => {
            facts.of_postgres = of_postgres;
            facts.nulls = compile::check_nulls(&query, config.source.connector_keeps_nulls).err();
            // A query that reads whole tables anyway needs no check of its plan.
            if query.evaluated_by() != Evaluate::Whole {
                facts.plan =
                    Some(plan(connection, &query, settings.time, now).await.map_err(|error| error.to_string()));
            }
            facts.query = Some(query);
        }
    }
    facts
}

/// Returns Postgres's plan for the confirmation of one existing key.
async fn plan(connection: &mut PgConnection, query: &Query, time: Time, now: Timestamp) -> Result<Plan, sqlx::Error> {
    let fragments = Fragments::of_rows(query);
    let columns: Vec<String> = query.group_by.iter().map(|index| fragments.column(*index)).collect();
    let table = quoted(&query.table.schema, &query.table.name);
    let texts: Vec<String> = columns.iter().map(|column| format!("({column})::text")).collect();
    let there: Vec<String> = columns.iter().map(|column| format!("{column} is not null")).collect();
    let sample = format!("select array[{}] from {table} as r where {} limit 1", texts.join(", "), there.join(" and "));
    let key: Option<Vec<String>> = query_scalar(AssertSqlSafe(sample)).fetch_optional(&mut *connection).await?;
    let is_there = key.is_some();
    let mut keys = key.unwrap_or_else(|| vec![String::new(); columns.len()]).into_iter();
    let mut next = || keys.next().filter(|_| is_there).into_iter().collect::<Vec<String>>();
    let statement = format!("explain {}", render::confirmation(query, time).sql);
    let asked = crate::postgres::query(AssertSqlSafe(statement)).bind(next());
    let mut asked = match time {
        Time::Processing => asked.bind(now.rfc3339()),
        Time::Event => asked.bind(is_there.then(|| now.rfc3339()).into_iter().collect::<Vec<_>>()),
    };
    for _ in columns.iter().skip(1) {
        asked = asked.bind(next());
    }
    let rows = asked.fetch_all(connection).await?;
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(Plan::read(lines.iter().map(String::as_str)))
}

/// Returns the facts of the table of alerts. Unlike a run's session, this one is read-only.
pub(super) async fn alerts_table(config: &Config) -> Result<AlertsTable, Failure> {
    let (url, setting) = config.table_url();
    let session = Session::Reading(config.postgres.statement_timeout);
    let server = Database::new(url, redact_url(url), setting, session)?;
    let mut connection = server.try_connect().await?;
    let asked = async {
        let create = "select has_database_privilege(current_database(), 'CREATE')";
        Ok::<_, sqlx::Error>(match rights(&mut connection).await? {
            Found::Nothing => {
                let begun = server.begin(&mut connection, Sees::Newest, "UTC").await;
                AlertsTable::Missing { may_create: query_scalar(create).fetch_one(&mut *begun?).await? }
            }
            Found::Older => AlertsTable::Older,
            Found::Tables(rights) => AlertsTable::There { missing: rights.missing() },
        })
    };
    let found = asked.await;
    let _ = connection.close().await;
    Ok(found.map_err(|error| server.failed(error))?)
}
