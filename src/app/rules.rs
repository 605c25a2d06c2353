//! Rules compiled against the catalog: SQL text → typed rules that Postgres and memory read alike.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::change::debezium::TableSource;
use crate::config::{Config, Postgres, RuleSettings};
use crate::confirm::postgres::catalog::{self, CatalogError};
use crate::confirm::postgres::contract;
use crate::contract::{Contract, gaps};
use crate::failure::{CallError, Failure, Kind};
use crate::model::Table;
use crate::postgres::zones::{Wanted, Zones};
use crate::postgres::{Database, query_scalar};
use crate::retry::Retry;
use crate::rule::message::Template;
use crate::rule::parse::{Parsed, parse};
use crate::rule::{OutputExpr, Query, Rule, Time, compile};
use crate::snapshot::{OLDEST_SERVER, OLDEST_TESTED};

/// The rules of a configuration, and the table that they read.
#[derive(Debug)]
pub struct CompiledRules {
    /// The table, from the catalog.
    pub table: Table,
    /// What the catalog says of the table's changes.
    pub source: TableSource,
    /// The rules, in the configuration's order.
    pub rules: Vec<Rule>,
    /// The columns that the rules need: indexes into the table's columns.
    pub wanted: Vec<usize>,
    /// What the table and its server were before the rules were compiled, with the needed columns.
    pub contract: Contract,
    /// Finds the time zone of each rule.
    pub zones: Zones,
}

/// Parses the rules and compiles them against the catalog, waiting for a database that is not there yet for so long.
///
/// # Errors
/// All that is wrong with the rules; or the database cannot be reached, or refuses.
pub async fn compile_rules(config: &Config, database: &Database, patience: Duration) -> Result<CompiledRules, Failure> {
    let parsed = parse_rules(&config.rules).map_err(Failure::misconfigured)?;
    let compiled =
        database.attempt(patience, async |connection| compile_all(config, database, &parsed, connection).await);
    let mut compiled = compiled.await?;
    let zones = Retry::for_at_most(patience).run("asking for time zones", async || compiled.zones.find().await);
    for (rule, zone) in compiled.rules.iter_mut().zip(zones.await?) {
        if rule.query.is_zoned() {
            tracing::info!(rule = rule.name, zone = zone.name(), "the time zone that the rule is run in");
        }
        rule.query.zone = zone;
    }
    let zones = &compiled.zones;
    for rule in &mut compiled.rules {
        let names = rule.query.zone_names();
        let setting = format!("rule {}: sql", rule.name);
        let asking = Retry::for_at_most(patience);
        let named = asking.run("asking for time zones", async || zones.named(&names, &setting).await).await?;
        rule.query.change_zones(&mut |zone| {
            if let Some(found) = names.iter().zip(&named).find(|(name, _)| *name == zone.name()) {
                *zone = Arc::clone(found.1);
            }
        });
    }
    Ok(compiled)
}

/// The time zone that a rule asks for.
pub fn wanted_zone(settings: &RuleSettings, postgres: &Postgres, query: &Query) -> Wanted {
    let of_rule = || Some(Wanted::Named(settings.time_zone.clone()?, format!("rule {}: time_zone", settings.name)));
    let of_all = || Some(Wanted::Named(postgres.time_zone.clone()?, "postgres.time_zone".to_owned()));
    match of_rule().or_else(of_all) {
        Some(named) => named,
        None if query.is_zoned() => Wanted::Plain,
        None => Wanted::Any,
    }
}

impl CompiledRules {
    /// The same, or compiled again where table or server have changed since.
    ///
    /// # Errors
    /// As of [`compile_rules`].
    pub async fn as_of_now(self, config: &Config, database: &Database, patience: Duration) -> Result<Self, Failure> {
        let Table { schema, name, .. } = &self.table;
        let look = database.attempt(patience, async |connection| {
            contract::look(connection, schema, name).await.map_err(|error| database.failed(error))
        });
        let now = look.await?.unwrap_or_default().contract;
        if self.contract.differences(&now.of_columns(self.contract.columns.keys().map(String::as_str))).is_empty() {
            return Ok(self);
        }
        compile_rules(config, database, patience).await
    }
}

/// Parses every rule, reporting all that is wrong with any of them.
fn parse_rules(rules: &[RuleSettings]) -> Result<Vec<Parsed>, String> {
    let mut parsed: Vec<Parsed> = Vec::new();
    let mut problems = Vec::new();
    for rule in rules {
        match parse(&rule.sql) {
            Ok(query) => parsed.push(query),
            Err(error) => problems.push(format!("rule {}: sql, {error}", rule.name)),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let table = |parsed: &Parsed| format!("{}.{}", parsed.schema.text, parsed.table.text);
    for (rule, query) in rules.iter().zip(&parsed) {
        if let Some(first) = parsed.first()
            && table(first) != table(query)
        {
            return Err(format!(
                "rule {} reads {}, but the first rule reads {}: one run watches one table; give the other rules a configuration with its own group id",
                rule.name,
                table(query),
                table(first)
            ));
        }
    }
    Ok(parsed)
}

async fn compile_all(
    config: &Config,
    database: &Database,
    parsed: &[Parsed],
    connection: &mut PgConnection,
) -> Result<CompiledRules, CallError> {
    check_server(connection, database).await?;
    // Before the catalog is read for the rules: what changes in between is a difference later.
    let contract = look(connection, database, parsed).await?;
    let mut rules = Vec::new();
    let mut found = None;
    for (settings, parsed) in config.rules.iter().zip(parsed) {
        let wrong = |problem: String| CallError::new(format!("rule {}", settings.name), problem, Kind::Misconfigured);
        let place = |error: CatalogError| match error {
            CatalogError::Connection(error) => database.failed(error),
            CatalogError::Rule(error) => wrong(format!("sql, {error}")),
            CatalogError::Unfit(problem) => wrong(problem),
        };
        let (schema, name) = (&parsed.schema.text, &parsed.table.text);
        let table = catalog::table(connection, schema, name).await.map_err(place)?;
        let query = compile_rule(connection, settings, parsed, &table).await.map_err(place)?;
        compile::check_nulls(&query, config.source.connector_keeps_nulls).map_err(wrong)?;
        rules.push(finish(settings, query).map_err(wrong)?);
        found = Some(table);
    }
    let table = found.ok_or_else(|| CallError::new("rules", "there are none", Kind::Misconfigured))?;
    let source = catalog::source(connection, &table.schema, &table.name).await;
    let source = source.map_err(|error| database.failed(error))?;
    let wanted = compile::wanted(&rules.iter().map(|rule| &rule.query).collect::<Vec<_>>());
    let zones =
        config.rules.iter().zip(&rules).map(|(settings, rule)| wanted_zone(settings, &config.postgres, &rule.query));
    let zones = Zones::new(database.clone(), zones.collect());
    let needed = wanted.iter().chain(&table.primary_key).filter_map(|index| table.columns.get(*index));
    let contract = contract.of_columns(needed.map(|column| column.name.as_str()));
    match gaps::refusals(&contract).as_slice() {
        [] => Ok(CompiledRules { table, source, rules, wanted, contract, zones }),
        refusals => {
            let call = format!("table {}.{}", table.schema, table.name);
            Err(CallError::new(call, refusals.join("\n"), Kind::Misconfigured))
        }
    }
}

/// What the rules' table and its server are; an empty contract where there is no such table.
async fn look(connection: &mut PgConnection, database: &Database, parsed: &[Parsed]) -> Result<Contract, CallError> {
    let Some(Parsed { schema, table, .. }) = parsed.first() else { return Ok(Contract::default()) };
    let look = contract::look(connection, &schema.text, &table.text).await.map_err(|error| database.failed(error))?;
    Ok(look.unwrap_or_default().contract)
}

/// Compiles one rule and checks that Postgres reads its text as memory does.
///
/// # Errors
/// It does not, or the connection fails.
pub async fn compile_rule(
    connection: &mut PgConnection,
    settings: &RuleSettings,
    parsed: &Parsed,
    table: &Table,
) -> Result<Query, CatalogError> {
    let query = compile::compile(parsed, table)?;
    catalog::prepare(connection, &settings.sql).await?;
    catalog::compare(connection, &settings.sql, &query, &parsed.spelling).await?;
    Ok(query)
}

/// Refuses a server that cannot confirm, and warns of one that is older than those that are tested.
async fn check_server(connection: &mut PgConnection, database: &Database) -> Result<(), CallError> {
    let version: i32 = query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| database.failed(error))?;
    let major = version / 10_000;
    if major < OLDEST_SERVER {
        let problem = format!(
            "is PostgreSQL {major}, whose snapshots cannot be read: PostgreSQL {OLDEST_SERVER} or later is needed"
        );
        return Err(CallError::new(database.setting(), problem, Kind::Misconfigured));
    }
    if major < OLDEST_TESTED {
        tracing::warn!("PostgreSQL {major} is older than {OLDEST_TESTED}, the oldest that is tested");
    }
    let standby = query_scalar("select pg_is_in_recovery()").fetch_one(connection).await;
    if standby.map_err(|error| database.failed(error))? {
        let problem = "points at a standby, whose snapshots cannot confirm: point it at the primary";
        return Err(CallError::new(database.setting(), problem, Kind::Misconfigured));
    }
    Ok(())
}

fn finish(settings: &RuleSettings, query: Query) -> Result<Rule, String> {
    if settings.time == Time::Event && query.bound.is_none() && query.has_more_times() {
        return Err(
            "time = \"event\" needs a lower time bound in WHERE, such as created_at >= NOW() - INTERVAL '7 days': \
                    its column is what NOW() goes by"
                .to_owned(),
        );
    }
    let names: Vec<&str> = query.outputs.iter().map(|output| output.name.as_str()).collect();
    let text = settings.message.clone().unwrap_or_else(|| default_message(&settings.name, &query));
    let message = Template::parse(&text, &names).map_err(|error| format!("message: {error}"))?;
    Ok(Rule {
        name: settings.name.clone(),
        version: compile::version(&query, settings.time, settings.confirm),
        severity: settings.severity.clone(),
        message,
        time: settings.time,
        confirm: settings.confirm,
        query,
    })
}

/// `weekly-spend: user_id {user_id}, total {total}`: the rule's name and every output.
fn default_message(name: &str, query: &Query) -> String {
    let escape = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let keys = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Key(_)));
    let rest = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Value(..)));
    let shown: Vec<String> = keys.chain(rest).map(|o| format!("{} {{{}}}", escape(&o.name), o.name)).collect();
    format!("{}: {}", escape(name), shown.join(", "))
}
