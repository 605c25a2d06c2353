//! Converts rows of the table, which a statement returned as text, to values by the columns' types. Pure.

use crate::change::decimal;
use crate::model::{Column, ColumnType, Double, Key, Timestamp, Value, inet};
use crate::rule::Query;

/// A row read from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// The primary key.
    pub pk: Key,
    /// The wanted columns, in their order.
    pub row: Box<[Value]>,
}

/// Converts a row of [`crate::rule::render::rows`]: the primary key's columns, then the wanted ones.
///
/// # Errors
/// A text that does not fit its column's type, or a missing column.
pub fn table_row(query: &Query, wanted: &[usize], texts: &[Option<String>]) -> Result<TableRow, String> {
    let columns = query.table.primary_key.iter().chain(wanted);
    if texts.len() != query.table.primary_key.len() + wanted.len() {
        return Err(format!("{} columns came", texts.len()));
    }
    let mut values = Vec::with_capacity(texts.len());
    for (index, text) in columns.zip(texts) {
        let column = query.table.columns.get(*index).ok_or_else(|| format!("column {index} is missing"))?;
        values.push(value(column, text.as_deref()).map_err(|problem| format!("column {}: {problem}", column.name))?);
    }
    let row = values.split_off(query.table.primary_key.len());
    Ok(TableRow { pk: Key::new(values), row: row.into() })
}

/// Converts a text to a value. Times are microseconds since 1970, or the infinities by name.
///
/// # Errors
/// A text that does not fit the column's type.
pub fn value(column: &Column, text: Option<&str>) -> Result<Value, String> {
    let Some(text) = text else { return Ok(Value::Null) };
    let bad = || format!("{text} is no {}", column.type_name);
    Ok(match &column.ty {
        ColumnType::Bool => Value::Bool(match text {
            "t" | "true" => true,
            "f" | "false" => false,
            _ => return Err(bad()),
        }),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => Value::Int(text.parse().map_err(|_| bad())?),
        ColumnType::Numeric { scale } => decimal::from_text(text, *scale)?,
        ColumnType::Text | ColumnType::Uuid | ColumnType::Enum => Value::Text(text.into()),
        ColumnType::Char => Value::Text(text.trim_end_matches(' ').into()),
        ColumnType::Inet => Value::Text(inet::without_full_mask(text).into()),
        ColumnType::Float4 | ColumnType::Float8 => {
            let value = Double::parse(text, column.ty == ColumnType::Float4).ok_or_else(bad)?;
            Double::new(value).map_or(Value::Opaque, Value::Double)
        }
        ColumnType::TimestampTz | ColumnType::Timestamp { .. } | ColumnType::Date => Value::Time(match text {
            "infinity" => Timestamp::MAX,
            "-infinity" => Timestamp::MIN,
            micros => Timestamp(micros.parse().map_err(|_| bad())?),
        }),
        ColumnType::Other => return Err(format!("{} cannot be held", column.type_name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_type() {
        let check = |ty: ColumnType, text: Option<&str>, want: Result<Value, ()>| {
            let column = Column { name: "c".into(), ty, type_name: "type".into(), nullable: true, has_default: false };
            assert_eq!(value(&column, text).map_err(drop), want, "{column:?} {text:?}");
        };
        check(ColumnType::Bool, Some("t"), Ok(Value::Bool(true)));
        check(ColumnType::Bool, Some("false"), Ok(Value::Bool(false)));
        check(ColumnType::Bool, Some("x"), Err(()));
        check(ColumnType::Int8, Some("-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        check(ColumnType::Int8, Some("1.0"), Err(()));
        check(ColumnType::Numeric { scale: Some(2) }, Some("3441.50"), Ok(Value::Decimal(344_150)));
        check(ColumnType::Numeric { scale: Some(2) }, Some("NaN"), Ok(Value::Opaque));
        check(ColumnType::Text, Some("a'b"), Ok(Value::Text("a'b".into())));
        check(ColumnType::Char, Some("ab  "), Ok(Value::Text("ab".into())));
        check(ColumnType::Inet, Some("10.0.0.1/32"), Ok(Value::Text("10.0.0.1".into())));
        check(ColumnType::Float8, Some("0.1"), Ok(Value::Double(Double::new(0.1).unwrap())));
        check(ColumnType::Float4, Some("0.1"), Ok(Value::Double(Double::new(f64::from(0.1_f32)).unwrap())));
        check(ColumnType::Float8, Some("-0"), Ok(Value::Opaque));
        check(ColumnType::Float8, Some("x"), Err(()));
        check(ColumnType::TimestampTz, Some("1772368496123456"), Ok(Value::Time(Timestamp(1_772_368_496_123_456))));
        check(ColumnType::Date, Some("-infinity"), Ok(Value::Time(Timestamp::MIN)));
        check(ColumnType::Date, Some("2026-01-01"), Err(()));
        check(ColumnType::Int4, None, Ok(Value::Null));
        check(ColumnType::Other, Some("x"), Err(()));
    }
}
