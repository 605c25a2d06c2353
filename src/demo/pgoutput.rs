//! Decodes messages of PostgreSQL's logical decoding by `pgoutput`, protocol version 1, with values as text. Pure.

use std::collections::HashMap;
use std::sync::Arc;

/// A table as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns in order.
    pub columns: Vec<Column>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// The type's number in `pg_type`.
    pub type_id: u32,
    /// Whether the column belongs to the replica identity.
    pub in_key: bool,
}

/// A column's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Null,
    /// A large value that was not changed and is not sent.
    Unchanged,
    /// As text.
    Text(String),
}

/// A row's values in order.
pub type Row = Vec<Cell>;

/// A change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// INSERT.
    Insert(Row),
    /// UPDATE: the old row, as far as the replica identity has it, and the new row.
    Update(Option<Row>, Row),
    /// DELETE: the old row, as far as the replica identity has it.
    Delete(Row),
}

/// A message about rows, or about the transaction around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Begin {
        /// When the transaction was committed, in microseconds since 1970.
        committed_at: i64,
        /// The end of its commit record in the log.
        commit_lsn: u64,
    },
    /// The last message of the transaction.
    Commit,
    /// A change of a row.
    Change(Arc<Relation>, Change),
    /// A message that is ignored: a table, a type, an origin, a TRUNCATE.
    Other,
}

/// Microseconds from 1970 to 2000, the start of PostgreSQL's count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Decodes messages, and stores the tables that the stream has described.
#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
}

impl Decoder {
    /// Decodes a message. `None`: it does not follow the protocol.
    pub fn decode(&mut self, bytes: &[u8]) -> Option<Message> {
        let mut bytes = Bytes(bytes);
        Some(match bytes.byte()? {
            b'B' => {
                let commit_lsn = bytes.u64()?;
                let committed_at = bytes.i64()?.checked_add(EPOCH_MICROS)?;
                Message::Begin { committed_at, commit_lsn }
            }
            b'C' => Message::Commit,
            b'R' => {
                let (id, relation) = bytes.relation()?;
                self.relations.insert(id, Arc::new(relation));
                Message::Other
            }
            b'I' => {
                let relation = self.relation(&mut bytes)?;
                bytes.expect(b'N')?;
                Message::Change(relation, Change::Insert(bytes.row()?))
            }
            b'U' => {
                let relation = self.relation(&mut bytes)?;
                let (before, mark) = match bytes.byte()? {
                    b'K' | b'O' => (Some(bytes.row()?), bytes.byte()?),
                    mark => (None, mark),
                };
                if mark != b'N' {
                    return None;
                }
                Message::Change(relation, Change::Update(before, bytes.row()?))
            }
            b'D' => {
                let relation = self.relation(&mut bytes)?;
                if !matches!(bytes.byte()?, b'K' | b'O') {
                    return None;
                }
                Message::Change(relation, Change::Delete(bytes.row()?))
            }
            _ => Message::Other,
        })
    }

    fn relation(&self, bytes: &mut Bytes<'_>) -> Option<Arc<Relation>> {
        self.relations.get(&bytes.u32()?).cloned()
    }
}

/// The rest of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.byte()? == wanted).then_some(())
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Reads a text that ends with a zero byte.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(self.take(end)?).ok()?.to_owned();
        self.byte()?;
        Some(text)
    }

    fn relation(&mut self) -> Option<(u32, Relation)> {
        let id = self.u32()?;
        let (schema, name) = (self.text()?, self.text()?);
        self.byte()?; // the kind of replica identity
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let in_key = self.byte()? & 1 == 1;
            let name = self.text()?;
            let type_id = self.u32()?;
            self.u32()?; // the type's modifier
            columns.push(Column { name, type_id, in_key });
        }
        Some((id, Relation { schema, name, columns }))
    }

    fn row(&mut self) -> Option<Row> {
        let count = self.u16()?;
        let mut row = Row::new();
        for _ in 0..count {
            row.push(match self.byte()? {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => {
                    let length = usize::try_from(self.u32()?).ok()?;
                    Cell::Text(std::str::from_utf8(self.take(length)?).ok()?.to_owned())
                }
                _ => return None,
            });
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation() -> Vec<u8> {
        let mut bytes = b"R\0\0\0\x07shop\0sales\0d\0\x02".to_vec();
        bytes.extend(b"\x01id\0\0\0\0\x14\xff\xff\xff\xff");
        bytes.extend(b"\0note\0\0\0\0\x19\xff\xff\xff\xff");
        bytes
    }

    fn decoder() -> Decoder {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&relation()), Some(Message::Other));
        decoder
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn changes_of_rows() {
        let mut decoder = decoder();
        let mut check = |bytes: &[u8], want: Change| match decoder.decode(bytes) {
            Some(Message::Change(relation, got)) => {
                assert_eq!((relation.schema.as_str(), relation.name.as_str()), ("shop", "sales"));
                let columns: Vec<_> = relation.columns.iter().map(|c| (c.name.as_str(), c.type_id, c.in_key)).collect();
                assert_eq!(columns, [("id", 20, true), ("note", 25, false)]);
                assert_eq!(got, want);
            }
            other => panic!("{other:?}"),
        };
        check(b"I\0\0\0\x07N\0\x02t\0\0\0\x015n", Change::Insert(vec![text("5"), Cell::Null]));
        check(b"U\0\0\0\x07N\0\x02t\0\0\0\x015u", Change::Update(None, vec![text("5"), Cell::Unchanged]));
        check(
            b"U\0\0\0\x07K\0\x02t\0\0\0\x014nN\0\x02t\0\0\0\x015n",
            Change::Update(Some(vec![text("4"), Cell::Null]), vec![text("5"), Cell::Null]),
        );
        check(b"D\0\0\0\x07K\0\x02t\0\0\0\x015n", Change::Delete(vec![text("5"), Cell::Null]));
    }

    #[test]
    fn a_transaction() {
        let mut bytes = b"B\0\0\0\0\0\0\x01\0".to_vec();
        bytes.extend(1_000_000_i64.to_be_bytes());
        bytes.extend(b"\0\0\0\x09");
        let want = Message::Begin { committed_at: EPOCH_MICROS + 1_000_000, commit_lsn: 256 };
        assert_eq!(decoder().decode(&bytes), Some(want));
        assert_eq!(decoder().decode(b"C\0"), Some(Message::Commit));
        assert_eq!(decoder().decode(b"T..."), Some(Message::Other));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = b"U\0\0\0\x07K\0\x02t\0\0\0\x014nN\0\x02t\0\0\0\x015n";
        for length in 0..whole.len() {
            assert_eq!(decoder().decode(&whole[..length]), None, "{length}");
        }
        let relation = relation();
        for length in 1..relation.len() {
            assert_eq!(Decoder::default().decode(&relation[..length]), None, "{length}");
        }
        assert_eq!(Decoder::default().decode(b"I\0\0\0\x07N\0\0"), None, "a table that was not described");
    }
}
