//! Rules compiled against the catalog: SQL text → typed rules that Postgres and memory read alike.
//!
//! - [`tables`]: the table of each source

pub mod tables;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::change::debezium::TableSource;
use crate::config::{Config, Postgres, RuleSettings, Source};
use crate::confirm::postgres::catalog::{self, CatalogError};
use crate::confirm::postgres::text::TextSettings;
use crate::confirm::postgres::{self as confirm, contract};
use crate::contract::{Contracts, gaps};
use crate::failure::{CallError, Failure, Kind};
use crate::model::Table;
use crate::postgres::zones::{Wanted, Zones};
use crate::postgres::{Database, query_scalar};
use crate::retry::Retry;
use crate::rule::message::Template;
use crate::rule::parse::{Parsed, parse};
use crate::rule::text::{self, ParsedText};
use crate::rule::watched::Watched;
use crate::rule::{Confirm, Evaluate, OutputExpr, Query, Rule, RuleError, Time, compile};
use crate::snapshot::{OLDEST_SERVER, OLDEST_TESTED};

/// The rules of a configuration, and the tables whose changes are read for them.
#[derive(Debug)]
pub struct CompiledRules {
    /// The table of each source, in the configuration's order.
    pub tables: Vec<Watched>,
    /// The catalog's facts about the changes of each table.
    pub sources: Vec<TableSource>,
    /// The rules, in the configuration's order.
    pub rules: Vec<Rule>,
    /// The state of the tables and their server before the rules were compiled, with the needed columns.
    pub contracts: Contracts,
    /// Finds the time zone of each rule.
    pub zones: Zones,
}

/// Parses the rules and compiles them against the catalog. Waits up to `patience` for the database.
///
/// # Errors
/// The rules are wrong, and the message has all problems. Or the database cannot be reached, or refuses.
pub async fn compile_rules(config: &Config, database: &Database, patience: Duration) -> Result<CompiledRules, Failure> {
    let parsed = parse_rules(config).map_err(Failure::misconfigured)?;
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

/// Returns the time zone that a rule asks for.
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
    /// Compiles the rules again if a table or the server has changed since they were compiled.
    ///
    /// # Errors
    /// Those of [`compile_rules`].
    pub async fn as_of_now(self, config: &Config, database: &Database, patience: Duration) -> Result<Self, Failure> {
        for watched in &self.tables {
            let (table, name) = (&watched.table, watched.table.to_string());
            let look = database.attempt(patience, async |connection| {
                let look = contract::look(connection, &table.schema, &table.name).await;
                look.map_err(|error| database.failed(error))
            });
            let now = look.await?.map(|found| found.0).unwrap_or_default();
            let then = self.contracts.0.get(&name).cloned().unwrap_or_default();
            if !then.differences(&now.of_columns(then.columns.keys().map(String::as_str))).is_empty() {
                return compile_rules(config, database, patience).await;
            }
        }
        Ok(self)
    }
}

/// A rule's text as parsed without Postgres.
pub enum ParsedRule {
    /// A query that memory may evaluate.
    Memory(Box<Parsed>),
    /// Any other query, and why memory does not evaluate it.
    Text(Box<ParsedText>, RuleError),
}

/// All rules, with the schema and name of each source's table.
struct ParsedRules {
    rules: Vec<ParsedRule>,
    tables: Vec<(String, String)>,
}

/// Returns `topic has s.a`, or `sources have s.a, s.b`.
fn have(tables: &[(String, String)]) -> String {
    let names: Vec<String> = tables.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
    format!("{} {}", if names.len() == 1 { "topic has" } else { "sources have" }, names.join(", "))
}

/// Parses every rule. The error has all problems of all rules.
fn parse_rules(config: &Config) -> Result<ParsedRules, String> {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for rule in &config.rules {
        match parse_rule(rule) {
            Ok(parsed) => rules.push(parsed),
            Err(error) => problems.push(format!("rule {}: sql, {error}", rule.name)),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let tables = tables::of_sources(&config.sources, &rules).map_err(|problem| {
        let why_not = |(rule, parsed): (&RuleSettings, &ParsedRule)| match parsed {
            ParsedRule::Memory(_) => None,
            ParsedRule::Text(_, error) => Some(format!("rule {}: sql, {error}", rule.name)),
        };
        let mut problems: Vec<String> = config.rules.iter().zip(&rules).filter_map(why_not).collect();
        problems.push(problem);
        problems.join("\n")
    })?;
    for (rule, parsed) in config.rules.iter().zip(&rules) {
        let ParsedRule::Memory(parsed) = parsed else { continue };
        if rule.evaluate != Evaluate::Memory {
            continue;
        }
        if !rule.key.is_empty() {
            return Err(format!(
                "rule {}: key is for rules that Postgres evaluates, and evaluate is \"memory\"; leave one of them out",
                rule.name
            ));
        }
        if !tables.iter().any(|(schema, table)| reads(parsed, schema, table)) {
            return Err(format!(
                "rule {} reads {}.{}, but the {}: memory evaluates rules on that table alone; leave evaluate out, so \
                 that Postgres runs the query at an interval, or give the table's topic a [[sources]] entry",
                rule.name,
                parsed.schema.text,
                parsed.table.text,
                have(&tables)
            ));
        }
    }
    Ok(ParsedRules { rules, tables })
}

fn reads(parsed: &Parsed, schema: &str, table: &str) -> bool {
    (parsed.schema.text.as_str(), parsed.table.text.as_str()) == (schema, table)
}

/// Parses one rule.
///
/// # Errors
/// The text is not SQL, or memory has to evaluate it and cannot.
pub fn parse_rule(rule: &RuleSettings) -> Result<ParsedRule, RuleError> {
    let of_memory = match parse(&rule.sql) {
        Ok(parsed) => return Ok(ParsedRule::Memory(Box::new(parsed))),
        Err(error) => error,
    };
    if rule.evaluate == Evaluate::Memory {
        return Err(of_memory);
    }
    // For a text that is not SQL at all, the first parser's error is returned.
    let parsed = text::parse(&rule.sql).map_err(|_| of_memory.clone())?;
    Ok(ParsedRule::Text(Box::new(parsed), of_memory))
}

/// Returns the table of a topic's changes. It is the table in the topic's name if a rule reads it, or that of the first
/// rule that memory evaluates.
pub fn watched_table(topic: &str, rules: &[ParsedRule]) -> Option<(String, String)> {
    let of_memory = rules.iter().find_map(|rule| match rule {
        ParsedRule::Memory(parsed) => Some((parsed.schema.text.clone(), parsed.table.text.clone())),
        ParsedRule::Text(..) => None,
    });
    tables::named_after(topic).filter(|table| tables::is_read(table, rules)).or(of_memory)
}

async fn compile_all(
    config: &Config,
    database: &Database,
    parsed: &ParsedRules,
    connection: &mut PgConnection,
) -> Result<CompiledRules, CallError> {
    check_server(connection, database).await?;
    // This comes before the catalog is read for the rules, so that a change in between shows later as a difference.
    let mut looked = Vec::new();
    for (schema, name) in &parsed.tables {
        let look = contract::look(connection, schema, name).await.map_err(|error| database.failed(error))?;
        looked.push(look.map(|found| found.0).unwrap_or_default());
    }
    let mut rules = Vec::new();
    let mut tables: Vec<Table> = Vec::new();
    for (settings, rule) in config.rules.iter().zip(&parsed.rules) {
        let wrong = |problem: String| CallError::new(format!("rule {}", settings.name), problem, Kind::Misconfigured);
        let place = |error: CatalogError| match error {
            CatalogError::Connection(error) => database.failed(error),
            CatalogError::Rule(error) => wrong(format!("sql, {error}")),
            CatalogError::Unfit(problem) => wrong(problem),
        };
        if tables.is_empty() {
            for (schema, name) in &parsed.tables {
                tables.push(catalog::table(connection, schema, name).await.map_err(place)?);
            }
        }
        let compiled = compile_any(connection, settings, rule, &tables).await.map_err(place)?;
        if let Some(how) = compiled.of_postgres {
            tracing::info!(rule = settings.name, "rule {}: {how}", settings.name);
        }
        let query = compiled.query;
        let of_rule = |(table, _): &(&Table, &Source)| table.is(&query.table.schema, &query.table.name);
        let keeps = tables.iter().zip(&config.sources).find(of_rule).map(|(_, source)| source.connector_keeps_nulls);
        compile::check_nulls(&query, keeps.unwrap_or(config.source.connector_keeps_nulls)).map_err(wrong)?;
        rules.push(finish(settings, query).map_err(wrong)?);
    }
    if tables.is_empty() {
        return Err(CallError::new("rules", "there are none", Kind::Misconfigured));
    }
    let zones =
        config.rules.iter().zip(&rules).map(|(settings, rule)| wanted_zone(settings, &config.postgres, &rule.query));
    let zones = Zones::new(database.clone(), zones.collect());
    let queries: Vec<&Query> = rules.iter().map(|rule| &rule.query).collect();
    let (mut watched, mut sources, mut contracts) = (Vec::new(), Vec::new(), Contracts::default());
    for ((table, contract), source) in tables.iter().zip(looked).zip(&config.sources) {
        let found = catalog::source(connection, &table.schema, &table.name).await;
        sources.push(found.map_err(|error| database.failed(error))?);
        let table = Watched::of(table, &source.topic, &queries);
        let contract = contract.of_columns(table.needed());
        let refusals = gaps::refusals(&contract);
        if !refusals.is_empty() {
            let call = format!("table {}", table.table);
            return Err(CallError::new(call, refusals.join("\n"), Kind::Misconfigured));
        }
        contracts.0.insert(table.table.to_string(), contract);
        watched.push(table);
    }
    Ok(CompiledRules { tables: watched, sources, rules, contracts, zones })
}

/// A compiled rule.
#[derive(Debug)]
pub struct Compiled {
    /// The query of the rule.
    pub query: Query,
    /// For a rule that Postgres alone evaluates: how it does that, and why memory does not.
    pub of_postgres: Option<String>,
}

/// Compiles a rule for memory, or for Postgres alone if memory cannot evaluate it.
///
/// # Errors
/// Neither can, or the connection fails.
pub async fn compile_any(
    connection: &mut PgConnection,
    settings: &RuleSettings,
    rule: &ParsedRule,
    tables: &[Table],
) -> Result<Compiled, CatalogError> {
    let of = |parsed: &Parsed| tables.iter().find(|table| reads(parsed, &table.schema, &table.name));
    let of_memory: CatalogError = match rule {
        ParsedRule::Memory(parsed) if of(parsed).is_none() => {
            let names: Vec<(String, String)> =
                tables.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
            let text = format!("it reads {}.{}, and the {}", parsed.schema.text, parsed.table.text, have(&names));
            CatalogError::Unfit(text)
        }
        ParsedRule::Memory(_) if matches!(settings.evaluate, Evaluate::Touched | Evaluate::Whole) => {
            CatalogError::Unfit(format!("evaluate is {:?}", settings.evaluate.as_str()))
        }
        ParsedRule::Memory(_) if !settings.key.is_empty() => {
            CatalogError::Unfit("key is set, and memory has that of GROUP BY".to_owned())
        }
        ParsedRule::Memory(parsed) => match compile_rule_on(connection, settings, parsed, of(parsed)).await {
            // If memory and Postgres read a text differently, the error is reported, and Postgres does not take the
            // rule over.
            Err(error @ CatalogError::Rule(_)) if settings.evaluate == Evaluate::Auto => error,
            compiled => return compiled.map(|query| Compiled { query, of_postgres: None }),
        },
        ParsedRule::Text(_, error) => error.clone().into(),
    };
    let parsed = match rule {
        ParsedRule::Memory(_) => &text::parse(&settings.sql)?,
        ParsedRule::Text(parsed, _) => &**parsed,
    };
    let wanted = TextSettings { evaluate: settings.evaluate, key: &settings.key, pace: settings.pace };
    let (query, touching) = match confirm::text::compile(connection, parsed, tables, wanted).await {
        // Postgres rejects the rule too. For a rule on one table, memory's error says more.
        Err(CatalogError::Rule(_)) if matches!((rule, &of_memory), (ParsedRule::Memory(_), CatalogError::Rule(_))) => {
            return Err(of_memory);
        }
        compiled => compiled?,
    };
    let how = touching.text(settings.pace.sweep);
    Ok(Compiled { query, of_postgres: Some(format!("{how}; memory does not: {of_memory}")) })
}

async fn compile_rule_on(
    connection: &mut PgConnection,
    settings: &RuleSettings,
    parsed: &Parsed,
    table: Option<&Table>,
) -> Result<Query, CatalogError> {
    match table {
        Some(table) => compile_rule(connection, settings, parsed, table).await,
        None => Err(CatalogError::Unfit("no source has its table".to_owned())),
    }
}

/// Compiles one rule, and checks that Postgres reads its text as memory does.
///
/// # Errors
/// Postgres reads the text differently, or the connection fails.
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

/// Refuses a server that cannot confirm. Warns of a server older than the tested ones.
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
    if query.text.is_some() && (settings.time == Time::Event || settings.confirm == Confirm::Off) {
        return Err("Postgres alone evaluates it, as of when it is asked: time = \"event\" and confirm = \"off\" need a rule that memory \
                    evaluates"
            .to_owned());
    }
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

/// Returns the rule's name and every output: `weekly-spend: user_id {user_id}, total {total}`.
fn default_message(name: &str, query: &Query) -> String {
    let escape = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let keys = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Key(_)));
    let rest = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Value(..)));
    let shown: Vec<String> = keys.chain(rest).map(|o| format!("{} {{{}}}", escape(&o.name), o.name)).collect();
    format!("{}: {}", escape(name), shown.join(", "))
}
