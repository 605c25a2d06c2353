//! Reads a table's description for the archive: every column, with any type.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::{CatalogError, no_table};
use crate::change::debezium::full_row::{Declared, FullRowColumn, FullRowTable};
use crate::change::full_row::{Field, FieldType};
use crate::postgres::query;

/// The greatest number of digits in a decimal of the archive.
const PRECISION_MAX: i32 = 38;

/// Reads a table's description. The table needs no primary key.
///
/// # Errors
/// There is no such table, or the connection fails.
pub async fn whole_table(
    connection: &mut PgConnection,
    schema: &str,
    name: &str,
) -> Result<FullRowTable, CatalogError> {
    let rows = query(include_str!("../catalog.sql")).bind(schema).bind(name).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Err(no_table(connection, schema, name).await);
    }
    let mut fields = Vec::new();
    let mut key: Vec<(i32, usize)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if let Some(position) = row.try_get::<Option<i32>, _>("key_position")? {
            key.push((position, index));
        }
        fields.push(column(row)?);
    }
    key.sort_unstable();
    let primary_key = key.into_iter().map(|(_, index)| index).collect();
    Ok(FullRowTable { schema: schema.to_owned(), name: name.to_owned(), fields, primary_key })
}

fn column(row: &PgRow) -> Result<FullRowColumn, sqlx::Error> {
    let base: String = row.try_get("base_type")?;
    let (ty, declared) = type_of(&base, row.try_get("modifier")?);
    Ok(FullRowColumn { field: Field { name: row.try_get("name")?, ty }, declared })
}

fn type_of(base: &str, modifier: i32) -> (FieldType, Declared) {
    let fraction = || Declared::Fraction { digits: u8::try_from(modifier).unwrap_or(6) };
    let ty = match base {
        "bool" => FieldType::Bool,
        "int2" => FieldType::Int16,
        "int4" => FieldType::Int32,
        "int8" | "oid" => FieldType::Int64,
        "float4" => FieldType::Float32,
        "float8" => FieldType::Float64,
        "numeric" => return numeric(modifier),
        "money" => return (FieldType::Text, Declared::Number { scale: Some(2) }),
        "date" => FieldType::Date,
        "time" => return (FieldType::Time, fraction()),
        "timestamp" => return (FieldType::Timestamp, fraction()),
        "timestamptz" => FieldType::TimestampTz,
        "bytea" => FieldType::Bytes,
        _ => FieldType::Text,
    };
    (ty, Declared::Plain)
}

/// Decodes the type modifier of numeric: (precision << 16 | scale) + 4, with the scale in 11 signed bits (Postgres's
/// `numeric.c`, `make_numeric_typmod`). −1 means that none was declared. The connector reads those bits as an unsigned
/// number.
fn numeric(modifier: i32) -> (FieldType, Declared) {
    if modifier < 4 {
        return (FieldType::Text, Declared::Number { scale: None });
    }
    let (precision, bits) = ((modifier - 4) >> 16, (modifier - 4) & 0x7ff);
    let scale = (bits ^ 0x400) - 0x400;
    // In Postgres a scale may be greater than the precision. Elsewhere the scale's digits are part of the precision.
    match (u8::try_from(precision.max(scale)), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if i32::from(precision) <= PRECISION_MAX => {
            (FieldType::Decimal { precision, scale }, Declared::Plain)
        }
        _ => (FieldType::Text, Declared::Number { scale: Some(bits) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics() {
        let decimal = |precision, scale| (FieldType::Decimal { precision, scale }, Declared::Plain);
        let text = |scale| (FieldType::Text, Declared::Number { scale });
        let check = |modifier: i32, want| assert_eq!(numeric(modifier), want, "{modifier}");
        check(-1, text(None));
        check((10 << 16 | 2) + 4, decimal(10, 2));
        check((38 << 16 | 18) + 4, decimal(38, 18));
        check((39 << 16 | 2) + 4, text(Some(2)));
        check((3 << 16 | 5) + 4, decimal(5, 5));
        check((5 << 16 | 0x7fe) + 4, text(Some(2_046))); // numeric(5,-2)
        check((1_000 << 16 | 40) + 4, text(Some(40)));
    }

    #[test]
    fn types_with_a_precision() {
        assert_eq!(type_of("timestamp", -1), (FieldType::Timestamp, Declared::Fraction { digits: 6 }));
        assert_eq!(type_of("time", 3), (FieldType::Time, Declared::Fraction { digits: 3 }));
        assert_eq!(type_of("", -1), (FieldType::Text, Declared::Plain));
    }
}
