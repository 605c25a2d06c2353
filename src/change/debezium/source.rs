//! Reads the origin of a change: whether it belongs to the table, its position in the WAL, its transaction and its
//! time.

use super::envelope::Source;
use super::named::Number;
use super::reject;
use crate::change::{Reject, RejectKind};
use crate::model::{Lsn, Timestamp};

/// Checks the database, schema and name of the table.
pub(super) fn check_table(database: Option<&str>, expected: (&str, &str), source: &Source) -> Result<(), Reject> {
    if let (Some(expected), Some(found)) = (database, &source.other_database) {
        return Err(reject(
            RejectKind::Database,
            format!(
                "source says that this is a change of database {found:?}, expected {expected:?}; give each database a \
                 topic of its own"
            ),
        ));
    }
    if source.other_schema.is_none() && source.other_table.is_none() {
        return Ok(());
    }
    let schema = source.other_schema.as_deref().unwrap_or(expected.0);
    let table = source.other_table.as_deref().unwrap_or(expected.1);
    Err(reject(
        RejectKind::Table,
        format!(
            "source says that this is a change of {schema:?}.{table:?}, expected {:?}.{:?}; give each table a topic \
             of its own; or, if it is a partition of that table, set publish_via_partition_root in the publication",
            expected.0, expected.1
        ),
    ))
}

pub(super) fn lsn(source: &Source) -> Result<Option<Lsn>, Reject> {
    Ok(match source.lsn {
        Number::Absent => None,
        // Postgres's own have 64 bits, of which no cluster gets to use the last.
        number => Some(Lsn(number.to_i64().and_then(|lsn| u64::try_from(lsn).ok()).ok_or_else(|| not_whole("lsn"))?)),
    })
}

pub(super) fn tx_id(source: &Source) -> Result<Option<u32>, Reject> {
    Ok(match source.tx_id {
        Number::Absent => None,
        // Java's int may have made it negative. The 32 bits are right.
        number => Some(number.to_i64().and_then(low_bits).ok_or_else(|| not_whole("txId"))?),
    })
}

pub(super) fn committed_at(micros: Number, millis: Number) -> Result<Option<Timestamp>, Reject> {
    let at = match (micros, millis) {
        (Number::Absent, Number::Absent) => return Ok(None),
        (Number::Absent, millis) => Timestamp::from_millis(millis.to_i64().ok_or_else(|| not_whole("ts_ms"))?),
        (micros, _) => Timestamp(micros.to_i64().ok_or_else(|| not_whole("ts_us"))?),
    };
    match at.date() {
        Some(_) => Ok(Some(at)),
        None => Err(reject(
            RejectKind::Envelope,
            "source.ts_us, or source.ts_ms, is in no year from 1 to 9999; is this topic written by Debezium?",
        )),
    }
}

/// 32 bits, from a signed or an unsigned number.
fn low_bits(number: i64) -> Option<u32> {
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

fn not_whole(field: &str) -> Reject {
    let detail = format!("source.{field} is not a whole number in its range; is this topic written by Debezium?");
    reject(RejectKind::Envelope, detail)
}
