//! The rules, and a script for their table. Each part ends in a state that depends on nothing but the table: so what
//! is told of it is the same wherever the process was when it was killed, and however long it was away.

use std::collections::BTreeSet;

use sqlx::Row;

use super::feed::Feed;

/// Name, window and HAVING. The short window is there for time: what is in it is dated ahead, and then
/// to leave it soon.
pub(super) const RULES: [(&str, &str, &str); 3] = [
    ("spend", "7 days", "SUM(amount) > 1000"),
    ("often", "7 days", "COUNT(*) > 2"),
    ("recent", "2 seconds", "SUM(amount) > 100"),
];

/// In the weeks' windows only.
pub(super) const BEFORE: &str = "now() - interval '1 day'";
/// In every window, for longer than a test takes.
const AHEAD: &str = "now() + interval '1 day'";
/// Leaves the short window a little later.
const LEAVES: &str = "now() - interval '2 seconds' + interval '700 milliseconds'";
/// By when it has left, in milliseconds.
const LEFT: i64 = 1_000;

/// A rule and a user.
pub(super) type Key = (String, i64);

/// The query of a rule, with NOW() as given.
pub(super) fn query(schema: &str, rule: usize, now: &str) -> String {
    let (_, window, having) = RULES[rule];
    format!(
        "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total
         FROM {schema}.transactions
         WHERE timestamp >= {now} - INTERVAL '{window}'
         GROUP BY user_id
         HAVING {having}"
    )
}

/// The keys that are over at an instant, by SQL.
pub(super) fn over(feed: &mut Feed, at: &str) -> BTreeSet<Key> {
    let mut over = BTreeSet::new();
    for (rule, (name, ..)) in RULES.iter().enumerate() {
        let sql = query(&feed.schema, rule, &format!("'{at}'::timestamptz"));
        over.extend(feed.rows(&sql).iter().map(|row| ((*name).to_owned(), row.get("user_id"))));
    }
    over
}

/// A part, and the instant by which its state has been reached, as milliseconds from when it is written.
pub(super) type Part = (fn(&mut Feed), i64);

pub(super) const PARTS: [Part; 5] =
    [(inserts, 0), (updates, 0), (time_passes, LEFT), (again, 0), (time_passes_again, LEFT)];

/// The part before which a chain of faults may begin: by then there has been time to store a state.
pub(super) const MIDDLE: usize = 3;

/// How many alerts that makes.
pub(super) const ALERTS: usize = 17;

fn inserts(feed: &mut Feed) {
    // spend and often of 1, spend of 2
    feed.insert(&[(1, 1, "400", BEFORE), (2, 1, "400", BEFORE), (3, 1, "400.50", BEFORE)]);
    feed.insert(&[(4, 2, "600", BEFORE), (5, 2, "600.25", BEFORE)]);
    // recent of 3
    feed.insert(&[(6, 3, "150", AHEAD)]);
    feed.insert(&[(7, 4, "150", AHEAD), (8, 5, "20", BEFORE)]);
    // Back under the threshold at once: to be told by nobody.
    feed.update("amount = 90", "id = 7");
}

fn updates(feed: &mut Feed) {
    // spend of 1 is over
    feed.update("amount = 100", "id = 3");
    // often of 2, by a row that was another user's
    feed.update("user_id = 2", "id = 8");
    feed.scribble(1);
    feed.scribble(2);
}

fn time_passes(feed: &mut Feed) {
    // recent of 3 is over by time alone, and that of 4 comes by it; often of 4
    feed.update(&format!("\"timestamp\" = {LEAVES}"), "id = 6");
    feed.insert(&[(9, 4, "80", AHEAD), (10, 4, "-100", LEAVES)]);
    // often of 1 is over
    feed.delete("id = 2");
}

fn again(feed: &mut Feed) {
    feed.update("amount = 2000", "id = 3");
    feed.update(&format!("\"timestamp\" = {AHEAD}"), "id = 6");
    feed.delete("user_id = 2");
    feed.delete("id = 9");
    feed.scribble(3);
}

fn time_passes_again(feed: &mut Feed) {
    feed.update(&format!("\"timestamp\" = {LEAVES}"), "id = 6");
}

/// Changes nothing for any rule. When it has been read, the last process has read everything.
pub(super) fn last_word(feed: &mut Feed) {
    feed.insert(&[(11, 6, "1", BEFORE)]);
}
