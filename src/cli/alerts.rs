//! `tripline alerts`: lists the alerts in the table, and follows new ones.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::terminal::{Align, colours, padded, printable, printable_json, width};
use super::{AlertsArgs, Output};
use crate::alert::record::AlertRecord;
use crate::app;
use crate::app::alerts_table::AlertsTable;
use crate::clock::{Clock, SystemClock};
use crate::failure::{CallError, Exit, Failure, HasKind};
use crate::host;
use crate::model::Timestamp;
use crate::retry::{Outage, Retry};
use crate::sink::postgres::stored::{self, Cursor, Filter};

/// The interval between two reads with `--follow`.
const POLL: Duration = Duration::from_secs(1);
/// How far each read reaches back. Alerts may enter the table later than alerts that were decided after them: the rows
/// of one epoch are inserted together, and other groups write the same table.
const OVERLAP: Duration = Duration::from_secs(10);
/// The number of alerts in one read.
const PAGE: u32 = 1_000;
/// The columns, and their initial widths.
const COLUMNS: [(&str, usize); 8] = [
    ("TIME", 20),
    ("STATUS", 8),
    ("GROUP", 12),
    ("RULE", 12),
    ("KEY", 16),
    ("MESSAGE", 28),
    ("TOTALS", 28),
    ("ID", 36),
];
/// The index of the group's column, which is shown if there may be several groups.
const GROUP: usize = 2;
/// A message longer than this is cut in the table.
const MESSAGE_MAX: usize = 60;

/// Lists alerts, and follows new ones.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn alerts(args: &AlertsArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let table = AlertsTable::of(&config)?;
    let mut connection = table.connect(Retry::ONCE).await?;
    let now = SystemClock::default().now();
    let filter = Filter {
        group: (!args.all_groups).then(|| config.kafka.group_id.clone()),
        rule: args.rule.clone(),
        status: args.status.map(|status| status.as_str().to_owned()),
        severity: args.severity.clone(),
        key: args.key.clone(),
        since: args.since.map(|since| since.at(now)),
    };
    if let Some(rule) = &args.rule {
        let mut known: Vec<String> = config.rules.iter().map(|rule| rule.name.clone()).collect();
        if !known.contains(rule) {
            let stored = stored::rules(&mut connection, filter.group.as_deref()).await;
            known.extend(stored.map_err(|error| table.failed(error))?);
        }
        check_rule(rule, known)?;
    }
    let mut printer = Printer::new(args.output, args.all_groups);
    let ended = if args.follow {
        let following = follow(&table, connection, &filter, args.limit, &mut printer);
        tokio::select! {
            ended = following => ended,
            () = host::stopped() => Ok(()),
        }
    } else {
        let found = stored::newest(&mut connection, &filter, args.limit).await.map_err(|error| table.failed(error))?;
        let _ = connection.close().await;
        printer.print(&found)
    };
    match ended {
        // The reader closed the pipe.
        Ok(()) | Err(End::Closed) => Ok(()),
        Err(End::Failed(failure)) => Err(failure),
    }
}

/// Rejects a rule that neither the configuration nor the table has, because it is probably misspelt.
fn check_rule(rule: &str, mut known: Vec<String>) -> Result<(), Failure> {
    if known.iter().any(|name| name == rule) {
        return Ok(());
    }
    known.sort_unstable();
    known.dedup();
    Err(Failure::misconfigured(format!("--rule {rule}: there is no such rule; known: {}", known.join(", "))))
}

/// Why printing ends.
enum End {
    Closed,
    Failed(Failure),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Failed(Failure::new(Exit::Failed, format!("standard output: {error}")))
    }
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        Self::Failed(error.into())
    }
}

/// Prints the last alerts, oldest first, and then new ones. Returns only on an error.
async fn follow(
    table: &AlertsTable,
    connection: PgConnection,
    filter: &Filter,
    limit: u32,
    printer: &mut Printer,
) -> Result<(), End> {
    let mut connection = connection;
    // One at least, to know where to go on from.
    let last = stored::newest(&mut connection, filter, limit.max(1)).await;
    let mut last = last.map_err(|error| table.failed(error))?;
    let mut reader = Reader::starting_after(last.first());
    last.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    last.reverse();
    printer.print(&last)?;
    let mut connected = Some(connection);
    let mut outage = Outage::new("following the table of alerts");
    loop {
        tokio::time::sleep(POLL).await;
        let read = async {
            let mut connection = match connected.take() {
                Some(connection) => connection,
                None => table.connect(Retry::ONCE).await?,
            };
            let new = reader.read_new(&mut connection, filter).await.map_err(|error| table.failed(error))?;
            Ok::<_, CallError>((connection, new))
        };
        match read.await {
            Ok((connection, new)) => {
                outage.is_over();
                connected = Some(connection);
                printer.print(&new)?;
            }
            Err(error) if error.is_retried() => outage.goes_on(&error),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The alerts that have been shown so far.
struct Reader {
    /// The newest alert at the start. Alerts before it are not shown later.
    start: Option<Cursor>,
    /// The newest alert since.
    newest: Option<Cursor>,
    /// The ids that were shown within the last [`OVERLAP`].
    shown: HashSet<Uuid>,
}

impl Reader {
    fn starting_after(record: Option<&AlertRecord>) -> Self {
        let start = record.map(|record| (record.emitted_at.clone(), record.id));
        Self { newest: start.clone(), start, shown: HashSet::new() }
    }

    /// The beginning of a read: a little before the newest alert, but not before the start.
    fn from(&self) -> Option<Cursor> {
        let newest = self.newest.as_ref().and_then(|(at, _)| Timestamp::parse(at))?;
        let back = i64::try_from(OVERLAP.as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp(newest.0.saturating_sub(back));
        match &self.start {
            Some((at, _)) if Timestamp::parse(at).is_some_and(|start| start >= from) => self.start.clone(),
            _ => Some((from.rfc3339(), Uuid::nil())),
        }
    }

    /// Reads the new alerts, oldest first.
    async fn read_new(
        &mut self,
        connection: &mut PgConnection,
        filter: &Filter,
    ) -> Result<Vec<AlertRecord>, sqlx::Error> {
        let mut cursor = self.from();
        let (mut new, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let page = stored::later(connection, filter, cursor.as_ref(), PAGE).await?;
            let full = page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
            if let Some(last) = page.last() {
                cursor = Some((last.emitted_at.clone(), last.id));
                self.newest = cursor.clone();
            }
            for record in page {
                seen.insert(record.id);
                if !self.shown.contains(&record.id) {
                    new.push(record);
                }
            }
            if !full {
                break;
            }
        }
        self.shown = seen;
        Ok(new)
    }
}

/// Writes records to standard output.
struct Printer {
    output: Output,
    colour: bool,
    all_groups: bool,
    widths: [usize; COLUMNS.len()],
    begun: bool,
}

impl Printer {
    fn new(output: Output, all_groups: bool) -> Self {
        let (colour, widths) = (colours(&std::io::stdout()), COLUMNS.map(|(_, width)| width));
        Self { output, colour, all_groups, widths, begun: false }
    }

    fn print(&mut self, records: &[AlertRecord]) -> Result<(), End> {
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Json => {
                for record in records {
                    let line = serde_json::to_string(record).map_err(std::io::Error::other)?;
                    writeln!(out, "{}", printable_json(&line))?;
                }
            }
            Output::Table => {
                for line in self.table(records) {
                    writeln!(out, "{line}")?;
                }
            }
        }
        out.flush()?;
        Ok(())
    }

    /// Formats lines with columns as wide as the widest cell so far. The head comes with the first lines.
    fn table(&mut self, records: &[AlertRecord]) -> Vec<String> {
        let rows: Vec<[String; COLUMNS.len()]> = records.iter().map(cells).collect();
        for row in &rows {
            for (widest, cell) in self.widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            lines.push(self.line(&COLUMNS.map(|(name, _)| name.to_owned()), None));
        }
        for (row, record) in rows.iter().zip(records) {
            let colour = if record.status == "firing" { "\u{1b}[31m" } else { "\u{1b}[32m" };
            lines.push(self.line(row, self.colour.then_some(colour)));
        }
        lines
    }

    fn line(&self, cells: &[String], colour: Option<&str>) -> String {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate().filter(|(index, _)| self.all_groups || *index != GROUP) {
            let cell = padded(cell, self.widths.get(index).copied().unwrap_or_default(), Align::Left);
            match colour.filter(|_| index == 1) {
                Some(colour) => line.push_str(&format!("{colour}{cell}\u{1b}[0m  ")),
                None => line.push_str(&format!("{cell}  ")),
            }
        }
        line.trim_end().to_owned()
    }
}

fn cells(record: &AlertRecord) -> [String; COLUMNS.len()] {
    let key: Vec<String> = record.key.values().map(shown).collect();
    let message = printable(&record.message);
    let message = if message.chars().count() > MESSAGE_MAX {
        let start: String = message.chars().take(MESSAGE_MAX.saturating_sub(1)).collect();
        format!("{start}…")
    } else {
        message
    };
    let totals = match &record.database {
        Some(database) => pairs(database),
        None => format!("{} (not confirmed)", record.stream.as_ref().map(pairs).unwrap_or_default()),
    };
    let at = Timestamp::parse(&record.emitted_at).map(seconds);
    [
        at.unwrap_or_else(|| record.emitted_at.clone()),
        printable(&record.status),
        printable(&record.group),
        printable(&record.rule),
        key.join(" | "),
        message,
        totals,
        record.id.to_string(),
    ]
}

fn seconds(at: Timestamp) -> String {
    Timestamp(at.0.div_euclid(1_000_000).saturating_mul(1_000_000)).rfc3339()
}

/// `transactions 7, total 3441.50`
pub(super) fn pairs(map: &Map<String, Json>) -> String {
    let pairs: Vec<String> = map.iter().map(|(name, value)| format!("{} {}", printable(name), shown(value))).collect();
    pairs.join(", ")
}

/// Formats a value for people: text without quotes.
pub(super) fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => printable(text),
        Json::Null => "NULL".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: &str, user: i64, message: &str, database: bool) -> AlertRecord {
        let confirmed = if database { r#"{"transactions":7,"total":"3441.50"}"# } else { "null" };
        let message = Json::from(message);
        AlertRecord::parse(&format!(
            r#"{{"id":"1c0c0000-0000-5000-8000-000000000000","group":"g","lineage":"l","rule":"weekly-spend",
                "rule_version":"v","status":"{status}","severity":"critical","key":{{"user_id":{user}}},
                "message":{message},"stream":{{"transactions":8,"total":"4000.00"}},"database":{confirmed},
                "having":"SUM(amount) > 1","window":{{"from":null,"to":"2026-11-22T10:00:00Z"}},"trigger":null,
                "confirmation":{{"required":true}},"emitted_at":"2026-11-22T10:00:00.123456+00:00"}}"#
        ))
        .unwrap()
    }

    fn printer(colour: bool, all_groups: bool) -> Printer {
        let widths = COLUMNS.map(|(_, width)| width);
        Printer { output: Output::Table, colour, all_groups, widths, begun: false }
    }

    #[test]
    fn columns_are_aligned() {
        let mut printer = printer(false, false);
        let long = "x".repeat(80);
        let records = [
            record("firing", 27_956_157, "User 27956157 ($3,441.50)", true),
            record("resolved", 1, "a\u{1b}[31m\nb", false),
            record("firing", 2, &long, true),
        ];
        let cut = "x".repeat(59);
        let line = |start: &str, key: &str, message: &str, totals: &str, id: &str| {
            format!("{start}  {key:16}  {message:60}  {totals:45}  {id}")
        };
        let id = "1c0c0000-0000-5000-8000-000000000000";
        let firing = "2026-11-22T10:00:00Z  firing    weekly-spend";
        let resolved = "2026-11-22T10:00:00Z  resolved  weekly-spend";
        let (confirmed, not) = ("transactions 7, total 3441.50", "transactions 8, total 4000.00 (not confirmed)");
        let want = [
            line("TIME                  STATUS    RULE        ", "KEY", "MESSAGE", "TOTALS", "ID"),
            line(firing, "27956157", "User 27956157 ($3,441.50)", confirmed, id),
            line(resolved, "1", "a\u{fffd}[31m\u{fffd}b", not, id),
            line(firing, "2", &format!("{cut}…"), confirmed, id),
        ];
        assert_eq!(printer.table(&records), want);
        // The head stands once.
        assert_eq!(printer.table(&records[..1]).len(), 1);
    }

    #[test]
    fn the_group_is_shown_where_there_may_be_several() {
        let lines = printer(false, true).table(&[record("firing", 1, "m", true)]);
        assert!(lines[0].starts_with("TIME                  STATUS    GROUP         RULE  "), "{lines:?}");
        assert!(lines[1].starts_with("2026-11-22T10:00:00Z  firing    g             weekly-spend  1 "), "{lines:?}");
    }

    #[test]
    fn a_rule_that_is_misspelt() {
        let known = || vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(check_rule("a", known()), Ok(()));
        let refused = check_rule("c", known()).unwrap_err();
        assert_eq!(
            (refused.exit, refused.message.as_str()),
            (Exit::Misconfigured, "--rule c: there is no such rule; known: a, b")
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut printer = printer(true, false);
        let line = printer.table(&[record("firing", 1, "m", true)]).remove(1);
        assert_eq!(line.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "").find("weekly"), Some(32), "{line}");
    }

    #[test]
    fn a_read_reaches_back_but_not_before_the_start() {
        let mut first = record("firing", 1, "m", true);
        let mut reader = Reader::starting_after(Some(&first));
        assert_eq!(reader.from(), reader.start);
        first.emitted_at = "2026-11-22T10:00:30Z".to_owned();
        reader.newest = Some((first.emitted_at, first.id));
        assert_eq!(reader.from(), Some(("2026-11-22T10:00:20Z".to_owned(), Uuid::nil())));
        assert_eq!(Reader::starting_after(None).from(), None);
    }
}
