//! Rules compiled against the catalog: SQL text → typed rules that Postgres and memory read alike.

use sqlx::postgres::PgConnection;

use crate::change::debezium::TableSource;
use crate::config::{Config, RuleSettings};
use crate::confirm::postgres::catalog::{self, CatalogError};
use crate::failure::{CallError, Failure, Kind};
use crate::model::Table;
use crate::postgres::Database;
use crate::rule::message::Template;
use crate::rule::parse::{Parsed, parse};
use crate::rule::{OutputExpr, Query, Rule, compile};

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
}

/// Parses the rules and compiles them against the catalog, waiting for a database that is not there yet.
///
/// # Errors
/// All that is wrong with the rules; or the database cannot be reached, or refuses.
pub async fn compile_rules(config: &Config, database: &Database) -> Result<CompiledRules, Failure> {
    let parsed = parse_rules(&config.rules).map_err(Failure::misconfigured)?;
    let compiled = database
        .attempt(config.startup_wait, async |connection| compile_all(config, database, &parsed, connection).await);
    Ok(compiled.await?)
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
    refuse_standby(connection, database).await?;
    let table = found.ok_or_else(|| CallError::new("rules", "there are none", Kind::Misconfigured))?;
    let source = catalog::source(connection, &table.schema, &table.name).await;
    let source = source.map_err(|error| database.failed(error))?;
    let wanted = compile::wanted(&rules.iter().map(|rule| &rule.query).collect::<Vec<_>>());
    Ok(CompiledRules { table, source, rules, wanted })
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

async fn refuse_standby(connection: &mut PgConnection, database: &Database) -> Result<(), CallError> {
    let standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await;
    if standby.map_err(|error| database.failed(error))? {
        let problem = "points at a standby, whose snapshots cannot confirm: point it at the primary";
        return Err(CallError::new(database.setting(), problem, Kind::Misconfigured));
    }
    Ok(())
}

fn finish(settings: &RuleSettings, query: Query) -> Result<Rule, String> {
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
    let rest = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Aggregate(_)));
    let shown: Vec<String> = keys.chain(rest).map(|o| format!("{} {{{}}}", escape(&o.name), o.name)).collect();
    format!("{}: {}", escape(name), shown.join(", "))
}
