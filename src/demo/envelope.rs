//! Formats a change like Debezium's connector for PostgreSQL: JSON without schema, `decimal.handling.mode=string`.
//! Pure.

use serde_json::{Map, Value as Json, json};

use super::pgoutput::{Cell, Change, Relation, Row};

/// The numbers in `pg_type` of types that are not written as text.
const BOOL: u32 = 16;
const WHOLE: [u32; 3] = [20, 21, 23];
const TIMESTAMPTZ: u32 = 1_184;

/// The origin of a change.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The position in the log.
    pub lsn: i64,
    /// The transaction's id.
    pub transaction: i64,
    /// The position of the commit.
    pub commit_lsn: u64,
    /// The time of the commit, in microseconds since 1970.
    pub committed_at: i64,
}

/// Formats the record's key and value. `now` is when it is written, in microseconds since 1970.
pub fn record(relation: &Relation, change: &Change, origin: Origin, now: i64) -> (String, String) {
    let (op, before, after) = match change {
        Change::Insert(after) => ("c", Json::Null, object(relation, after)),
        Change::Update(before, after) => {
            let before = before.as_ref().map_or(Json::Null, |before| object(relation, before));
            ("u", before, object(relation, after))
        }
        Change::Delete(before) => ("d", object(relation, before), Json::Null),
    };
    let keyed = if after.is_null() { &before } else { &after };
    let in_key = relation.columns.iter().filter(|column| column.in_key);
    let key: Map<String, Json> =
        in_key.map(|column| (column.name.clone(), keyed.get(&column.name).cloned().unwrap_or_default())).collect();
    let value = json!({
        "before": before,
        "after": after,
        "source": {
            "version": concat!("tripline-demo-", env!("CARGO_PKG_VERSION")),
            "connector": "postgresql",
            "name": "postgres",
            "ts_ms": origin.committed_at.div_euclid(1_000),
            "snapshot": "false",
            "db": "postgres",
            "sequence": format!("[\"{}\",\"{}\"]", origin.commit_lsn, origin.lsn),
            "ts_us": origin.committed_at,
            "ts_ns": origin.committed_at.saturating_mul(1_000),
            "schema": relation.schema,
            "table": relation.name,
            "txId": origin.transaction,
            "lsn": origin.lsn,
            "xmin": null,
            "origin": null,
            "origin_lsn": null,
        },
        "transaction": null,
        "op": op,
        "ts_ms": now.div_euclid(1_000),
        "ts_us": now,
        "ts_ns": now.saturating_mul(1_000),
    });
    (Json::Object(key).to_string(), value.to_string())
}

fn object(relation: &Relation, row: &Row) -> Json {
    let pairs = relation.columns.iter().zip(row);
    Json::Object(pairs.map(|(column, cell)| (column.name.clone(), value(column.type_id, cell))).collect())
}

fn value(type_id: u32, cell: &Cell) -> Json {
    let text = match cell {
        Cell::Null => return Json::Null,
        Cell::Unchanged => return Json::from("__debezium_unavailable_value"),
        Cell::Text(text) => text,
    };
    match type_id {
        BOOL => Json::Bool(text == "t"),
        TIMESTAMPTZ => Json::from(zoned(text).unwrap_or_else(|| text.clone())),
        _ if WHOLE.contains(&type_id) => text.parse::<i64>().map_or_else(|_| Json::from(text.clone()), Json::from),
        _ => Json::from(text.clone()),
    }
}

/// Converts `2026-03-01 12:34:56.5+00` to `2026-03-01T12:34:56.500000Z`. `None` for text that a server in UTC does not
/// write.
fn zoned(text: &str) -> Option<String> {
    let (date, time) = text.strip_suffix("+00")?.split_once(' ')?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    Some(format!("{date}T{seconds}.{fraction:0<6}Z"))
}

#[cfg(test)]
mod tests {
    use super::super::pgoutput::Column;
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn column(name: &str, type_id: u32, in_key: bool) -> Column {
        Column { name: name.to_owned(), type_id, in_key }
    }

    fn sales() -> Relation {
        let columns = vec![column("id", 20, true), column("amount", 1_700, false), column("at", 1_184, false)];
        Relation { schema: "shop".to_owned(), name: "sales".to_owned(), columns }
    }

    const ORIGIN: Origin = Origin { lsn: 300, transaction: 7, commit_lsn: 400, committed_at: 1_700_000_000_123_456 };

    fn check(change: &Change, op: &str, before: Json, after: Json) {
        let (key, value) = record(&sales(), change, ORIGIN, 1_700_000_000_200_000);
        let value: Json = serde_json::from_str(&value).unwrap();
        assert_eq!(key, r#"{"id":5}"#);
        assert_eq!((&value["op"], &value["before"], &value["after"]), (&json!(op), &before, &after));
        let source = &value["source"];
        let told = [&source["lsn"], &source["txId"], &source["ts_us"], &source["ts_ms"], &value["ts_ms"]];
        assert_eq!(told, [300_i64, 7, 1_700_000_000_123_456, 1_700_000_000_123, 1_700_000_000_200]);
        assert_eq!((&source["schema"], &source["table"]), (&json!("shop"), &json!("sales")));
    }

    #[test]
    fn envelopes() {
        let row = || vec![text("5"), text("-1.50"), text("2026-03-01 12:34:56.5+00")];
        let after = json!({ "id": 5, "amount": "-1.50", "at": "2026-03-01T12:34:56.500000Z" });
        let key = json!({ "id": 5, "amount": null, "at": null });
        check(&Change::Insert(row()), "c", Json::Null, after.clone());
        check(&Change::Update(None, row()), "u", Json::Null, after);
        check(&Change::Delete(vec![text("5"), Cell::Null, Cell::Null]), "d", key, Json::Null);
    }

    #[test]
    fn instants() {
        let check = |text: &str, want: Option<&str>| assert_eq!(zoned(text).as_deref(), want, "{text}");
        check("2026-03-01 12:35:00+00", Some("2026-03-01T12:35:00.000000Z"));
        check("2026-03-01 12:35:00.000001+00", Some("2026-03-01T12:35:00.000001Z"));
        check("infinity", None);
        check("2026-03-01 12:35:00+02", None);
    }
}
