//! Rules that Postgres alone evaluates: what Postgres reports about their texts.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column as _, Executor, Row, SqlSafeStr as _, TypeInfo as _};

use super::catalog::{self, CatalogError};
use crate::model::{Column, Table};
use crate::postgres::{query, query_scalar};
use crate::rule::render::{self, quote_ident};
use crate::rule::text::{Pace, ParsedText, Relation, Relations, Text, Touched};
use crate::rule::{Evaluate, Query, Time, Type};

/// The base type of each output, as [`catalog::column`] reads it. `$1 oid[]` has one type for each output.
const TYPES: &str = "
    with recursive column_type as (
        select asked.ord, asked.type_id, -1 as modifier
        from unnest($1::oid[]) with ordinality as asked(type_id, ord)
        union all
        select column_type.ord, domain.typbasetype, domain.typtypmod
        from column_type
        join pg_type as domain on domain.oid = column_type.type_id and domain.typtype = 'd'
    )
    select
        '' as name,
        case when type.typtype = 'e' then quote_ident(type_schema.nspname) || '.' || quote_ident(type.typname)
            else format_type(column_type.type_id, column_type.modifier) end as type_name,
        case when type_schema.nspname = 'pg_catalog' then type.typname::text else '' end as base_type,
        type.typtype = 'e' as is_enum,
        column_type.modifier,
        true as nullable,
        false as has_default,
        true as deterministic
    from column_type
    join pg_type as type on type.oid = column_type.type_id and type.typtype <> 'd'
    join pg_namespace as type_schema on type_schema.oid = type.typnamespace
    order by column_type.ord";

/// The settings of a rule that concern its text.
#[derive(Clone, Copy, Debug)]
pub struct TextSettings<'a> {
    /// The requested evaluator.
    pub evaluate: Evaluate,
    /// The names of the outputs that are the key. Empty: the columns of GROUP BY.
    pub key: &'a [String],
    /// The times at which Postgres evaluates.
    pub pace: Pace,
}

/// The tables that a text reads, by whether their changes determine the touched keys.
#[derive(Clone, Debug, Default)]
pub struct Touching {
    /// The tables whose changes do.
    touched: Vec<String>,
    /// The tables of sources whose changes do not, and why.
    not_shown: Vec<(String, String)>,
    /// The tables without a source.
    unwatched: Vec<String>,
}

impl Touching {
    /// Describes how Postgres evaluates the rule, whose whole query is run at the interval `sweep`.
    pub fn text(&self, sweep: Duration) -> String {
        if self.touched.is_empty() {
            let why: Vec<&str> = self.not_shown.iter().map(|(_, why)| why.as_str()).collect();
            return format!("Postgres evaluates it as a whole, every {} s ({})", sweep.as_secs(), why.join("; "));
        }
        let mut text =
            format!("Postgres evaluates it for the keys that a change of {} touches", self.touched.join(" or "));
        for (table, why) in &self.not_shown {
            text.push_str(&format!("; a change of {table} is found at an interval ({why})"));
        }
        if !self.unwatched.is_empty() {
            text.push_str(&format!(
                "; a change of {}, without a source, is found at an interval",
                self.unwatched.join(", ")
            ));
        }
        text
    }
}

/// Compiles a text for these tables of changes. Returns the query, and which tables' changes determine the touched
/// keys.
///
/// # Errors
/// Postgres does not accept the text, the text cannot be a rule, or the connection fails.
pub async fn compile(
    connection: &mut PgConnection,
    parsed: &ParsedText,
    tables: &[Table],
    wanted: TextSettings<'_>,
) -> Result<(Query, Touching), CatalogError> {
    let unfit = |problem: String| CatalogError::Unfit(format!("sql: {problem}"));
    catalog::prepare(connection, &parsed.sql).await?;
    let volatile: Vec<String> = query_scalar(
        "select distinct proname::text from pg_proc where proname = any ($1::text[]) and provolatile = 'v' order by 1",
    )
    .bind(&parsed.functions)
    .fetch_all(&mut *connection)
    .await?;
    if !volatile.is_empty() {
        return Err(unfit(format!(
            "{} may return something else at each call (VOLATILE), so an answer would mean nothing; declare a function of your own \
             STABLE or IMMUTABLE if it is",
            volatile.join(", ")
        )));
    }
    let columns = columns(connection, parsed).await?;
    let relations = relations(connection, &parsed.relations).await?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if let Some((place, name)) =
        names.iter().enumerate().find(|(place, name)| names.iter().take(*place).any(|other| other == *name))
    {
        return Err(unfit(format!("output {} is named {name:?} like one before it; name it with AS", place + 1)));
    }
    let key = key(parsed, &relations, &names, wanted.key).map_err(unfit)?;
    let mut touching = Touching::default();
    let is_read = |table: &&Table| relations.values().any(|found| table.is(&found.schema, &found.name));
    let mut read: Vec<&Table> = tables.iter().filter(is_read).collect();
    if read.is_empty() {
        read.extend(tables.first()); // which it does not read, and that is said
    }
    let mut all = Vec::new();
    for table in read {
        let touches = match wanted.evaluate {
            Evaluate::Whole => Err("evaluate = \"whole\" says so".to_owned()),
            _ => parsed
                .touches(&relation_of(table), &relations, &key)
                .and_then(|touches| typed(table, &columns, &key, &touches)),
        };
        match &touches {
            Ok(_) => touching.touched.push(table.to_string()),
            Err(why) if wanted.evaluate == Evaluate::Touched => {
                return Err(unfit(format!(
                    "a change of {table} does not say which keys it touches: {why}; leave evaluate out, or set it to \"whole\""
                )));
            }
            Err(why) => touching.not_shown.push((table.to_string(), why.clone())),
        }
        all.push(Touched { table: table.clone(), touches: touches.unwrap_or_default() });
    }
    let is_watched = |found: &&Relation| tables.iter().any(|table| table.is(&found.schema, &found.name));
    let unwatched = relations.values().filter(|found| !is_watched(found));
    touching.unwatched = unwatched.map(|found| format!("{}.{}", found.schema, found.name)).collect();
    touching.unwatched.sort();
    touching.unwatched.dedup();
    // The query's own table is one whose changes touch keys, if there is one.
    let own = all.iter().position(|one| !one.touches.is_empty()).unwrap_or(0);
    let Touched { table, touches } =
        if own < all.len() { all.remove(own) } else { return Err(unfit("there is no source".to_owned())) };
    let table = &table;
    let text = Text {
        sql: parsed.sql.clone(),
        columns: names.into_iter().map(str::to_owned).collect(),
        key,
        touches,
        others: all,
        pace: wanted.pace,
    };
    let query = text.query(table, columns).map_err(unfit)?;
    // The text must also be valid in parentheses, with its keys.
    for statement in [render::confirmation(&query, Time::Processing).sql, render::holding(&query)] {
        let prepared = Executor::prepare(&mut *connection, AssertSqlSafe(statement).into_sql_str()).await;
        prepared.map_err(|error| match error {
            sqlx::Error::Database(error) if catalog::is_of_the_text(error.code().as_deref()) => unfit(format!(
                "in parentheses, as a table of its outputs, Postgres does not take it: {}",
                error.message()
            )),
            other => other.into(),
        })?;
    }
    Ok((query, touching))
}

fn relation_of(table: &Table) -> Relation {
    Relation {
        schema: table.schema.clone(),
        name: table.name.clone(),
        columns: table.columns.iter().map(|column| column.name.clone()).collect(),
        primary_key: Vec::new(),
    }
}

/// The outputs, with Postgres's types for them.
async fn columns(connection: &mut PgConnection, parsed: &ParsedText) -> Result<Vec<Column>, CatalogError> {
    let statement = Executor::prepare(&mut *connection, AssertSqlSafe(parsed.sql.clone()).into_sql_str()).await?;
    let outputs = sqlx::Statement::columns(&statement);
    let mut ids = Vec::with_capacity(outputs.len());
    for output in outputs {
        let id = output.type_info().oid().map(|oid| oid.0);
        ids.push(
            id.ok_or_else(|| CatalogError::Unfit(format!("sql: the type {} is not known", output.type_info().name())))?,
        );
    }
    let ids: Vec<sqlx::postgres::types::Oid> = ids.into_iter().map(sqlx::postgres::types::Oid).collect();
    let rows = query(TYPES).bind(ids).fetch_all(&mut *connection).await?;
    let mut columns = Vec::with_capacity(outputs.len());
    for (output, row) in outputs.iter().zip(&rows) {
        columns.push(Column { name: output.name().to_owned(), ..catalog::column(row)? });
    }
    if columns.len() == outputs.len() {
        Ok(columns)
    } else {
        Err(CatalogError::Unfit("sql: the catalog does not have the types of all outputs".to_owned()))
    }
}

async fn relations(connection: &mut PgConnection, names: &[String]) -> Result<Relations, sqlx::Error> {
    let quoted = |name: &String| name.split('.').map(quote_ident).collect::<Vec<_>>().join(".");
    let quoted: Vec<String> = names.iter().map(quoted).collect();
    let rows = query(include_str!("text.sql")).bind(names).bind(quoted).fetch_all(connection).await?;
    let mut relations = Relations::new();
    for row in rows {
        let relation = Relation {
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            columns: row.try_get("columns")?,
            primary_key: row.try_get("primary_key")?,
        };
        relations.insert(row.try_get("asked")?, relation);
    }
    Ok(relations)
}

/// The places of the key among the outputs.
fn key(parsed: &ParsedText, relations: &Relations, names: &[&str], wanted: &[String]) -> Result<Vec<usize>, String> {
    if wanted.is_empty() {
        return Ok(parsed.key(relations)?.unwrap_or_default());
    }
    let place = |name: &String| {
        let found = names.iter().position(|other| other == name);
        found.ok_or_else(|| format!("key: there is no output {name:?}; the outputs are {}", names.join(", ")))
    };
    wanted.iter().map(place).collect()
}

/// Finds the columns of the table whose values are a touched key. Their types must equal those of the key. Otherwise a
/// value of the key could read differently here.
fn typed(table: &Table, columns: &[Column], key: &[usize], touches: &[Vec<String>]) -> Result<Vec<Vec<usize>>, String> {
    let column = |(output, name): (&usize, &String)| {
        let (index, of_table) = table.column(name).ok_or_else(|| format!("there is no column {name:?}"))?;
        let of_key = columns.get(*output).ok_or("the key is not among the outputs")?;
        let (one, other) = (Type::of(&of_table.ty), Type::of(&of_key.ty));
        let is_integer = |ty: Option<Type>| ty.is_some_and(Type::is_integer);
        if one == other || is_integer(one) && is_integer(other) {
            return Ok(index);
        }
        Err(format!(
            "{name} is of type {} and the key {:?} of type {}",
            of_table.type_name, of_key.name, of_key.type_name
        ))
    };
    touches.iter().map(|touch| key.iter().zip(touch).map(column).collect()).collect()
}
