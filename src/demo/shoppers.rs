//! The simulated shoppers: many people who spend a little, and now and then somebody with a stolen card. They use only
//! SQL.
//!
//! A seed determines the purchases. Only their times depend on the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::MissedTickBehavior;

use super::server::Server;
use super::{DemoError, Done};

/// The interval between two ticks.
const TICK: Duration = Duration::from_millis(50);
/// The number of purchases in a tick: 260 a second.
const PURCHASES: usize = 13;
/// The number of people.
const USERS: u64 = 2_000;
/// The number of ticks between two acts of fraud.
const FRAUD_EVERY: u64 = 70;
/// The tick of the first act of fraud.
const FRAUD_FIRST: u64 = 20;
/// The number of ticks from the first spree to the bank's refund.
const REFUND_AFTER: u64 = 240;
/// The number of people in one wrong booking.
const MISTAKES: usize = 3;
/// How long a wrong booking remains: about as long as the stream takes to bring it. So some are gone when PostgreSQL is
/// asked.
const MISTAKE_STANDS: Duration = Duration::from_millis(16);

const MERCHANTS: [&str; 12] = [
    "Amazon",
    "Corner Bakery",
    "Shell",
    "Lidl",
    "Uber",
    "IKEA",
    "Netflix",
    "Book Nook",
    "Zara",
    "City Pharmacy",
    "Rail Europe",
    "Green Grocer",
];

const INSERT: &str = "
insert into streaming.transactions (user_id, amount, merchant, status)
select user_id, cents / 100.0, merchant, 'completed'
from unnest($1::int8[], $2::int8[], $3::text[]) as bought (user_id, cents, merchant)";

const TAKE_BACK: &str = "
update streaming.transactions set amount = 0, status = 'refunded'
where user_id = $1 and amount >= 300 and timestamp > now() - interval '5 minutes'";

/// A purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase {
    user: i64,
    cents: i64,
    merchant: &'static str,
}

/// The events of one tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// The purchases, all in one transaction.
    purchases: Vec<Purchase>,
    /// The wrong bookings. Each has its own transaction, and the next one takes it back.
    mistakes: Vec<Purchase>,
    /// The user whose large purchases are refunded.
    refund: Option<i64>,
}

/// Somebody with a stolen card.
#[derive(Clone, Copy, Debug)]
struct Thief {
    user: i64,
    /// The remaining purchases.
    left: u64,
    /// The ticks between two purchases.
    every: u64,
    /// The least amount in cents, and the greatest addition to it.
    cents: (i64, u64),
}

/// Generates the events.
#[derive(Debug)]
pub struct Script {
    seed: u64,
    tick: u64,
    frauds: u64,
    thieves: Vec<Thief>,
    refund: Option<(u64, i64)>,
}

impl Script {
    /// Creates a script. The same seed gives the same purchases.
    pub fn new(seed: u64) -> Self {
        Self { seed, tick: 0, frauds: 0, thieves: Vec::new(), refund: None }
    }

    /// Returns the events of the next tick.
    pub fn next_tick(&mut self) -> Acts {
        let mut acts = Acts { purchases: (0..PURCHASES).map(|_| self.everyday()).collect(), ..Acts::default() };
        if self.tick % FRAUD_EVERY == FRAUD_FIRST {
            acts.mistakes = self.fraud();
        }
        let tick = self.tick;
        let mut thieves = std::mem::take(&mut self.thieves);
        for thief in thieves.iter_mut().filter(|thief| tick.is_multiple_of(thief.every)) {
            thief.left = thief.left.saturating_sub(1);
            let cents = thief.cents.0 + self.below(thief.cents.1);
            acts.purchases.push(Purchase { user: thief.user, cents, merchant: self.merchant() });
        }
        thieves.retain(|thief| thief.left > 0);
        self.thieves = thieves;
        if let Some((_, user)) = self.refund.take_if(|(at, _)| *at <= tick) {
            acts.refund = Some(user);
        }
        self.tick += 1;
        acts
    }

    /// Begins the next act of fraud: a spree, a test of stolen cards, or wrong bookings, which are no fraud.
    fn fraud(&mut self) -> Vec<Purchase> {
        let user = self.user(12, USERS);
        self.frauds += 1;
        match self.frauds % 3 {
            1 => {
                if self.frauds == 1 {
                    self.refund = Some((self.tick + REFUND_AFTER, user));
                }
                self.thieves.push(Thief { user, left: 8, every: 5, cents: (42_000, 40_000) });
                Vec::new()
            }
            2 => {
                self.thieves.push(Thief { user, left: 16, every: 3, cents: (100, 150) });
                Vec::new()
            }
            _ => {
                let merchant = self.merchant();
                let mut wrong =
                    || Purchase { user: self.user(12, USERS), cents: 310_000 + self.below(90_000), merchant };
                (0..MISTAKES).map(|_| wrong()).collect()
            }
        }
    }

    /// An everyday purchase. One in eighty is made by a big spender.
    fn everyday(&mut self) -> Purchase {
        let user = if self.below(80) == 0 { self.user(0, 12) } else { self.user(12, USERS) };
        let cents = 200 + self.below(1_500) + if self.below(10) == 0 { self.below(9_000) } else { 0 };
        Purchase { user, cents, merchant: self.merchant() }
    }

    fn merchant(&mut self) -> &'static str {
        let index = self.draw() % 12;
        usize::try_from(index).ok().and_then(|index| MERCHANTS.get(index)).copied().unwrap_or("Amazon")
    }

    /// A user's number, spread like those of scripts/insert-transactions.
    fn user(&mut self, from: u64, to: u64) -> i64 {
        let number = from + self.draw() % (to - from);
        i64::try_from(10_000_000 + (17_956_157 + number * 48_271_397) % 90_000_000).unwrap_or(0)
    }

    fn below(&mut self, limit: u64) -> i64 {
        i64::try_from(self.draw().checked_rem(limit).unwrap_or(0)).unwrap_or(0)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Creates the empty table, and the role that confirms.
///
/// # Errors
/// The server refuses.
pub async fn migrate(connection: &mut PgConnection, server: &Server) -> Result<(), DemoError> {
    let role = format!("create role tripline login password '{}'", server.password());
    sqlx::raw_sql(sqlx::AssertSqlSafe(role)).execute(&mut *connection).await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *connection).await?;
    Ok(())
}

/// Inserts the purchases of the previous week.
///
/// # Errors
/// The server refuses.
pub async fn remember(connection: &mut PgConnection, done: &Done) -> Result<(), DemoError> {
    let made = sqlx::raw_sql(include_str!("history.sql")).execute(&mut *connection).await?;
    done.changed.fetch_add(made.rows_affected(), Ordering::Relaxed);
    sqlx::raw_sql("analyze streaming.transactions").execute(connection).await?;
    Ok(())
}

/// Buys until the demo closes.
///
/// # Errors
/// The server refuses.
pub async fn run(mut connection: PgConnection, mut script: Script, done: Arc<Done>) -> Result<(), DemoError> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !done.closed.load(Ordering::Relaxed) {
        ticks.tick().await;
        let acts = script.next_tick();
        buy(&mut connection, &acts.purchases, &done).await?;
        for mistake in acts.mistakes {
            buy(&mut connection, &[mistake], &done).await?;
            tokio::time::sleep(MISTAKE_STANDS).await;
            take_back(&mut connection, mistake.user, &done).await?;
        }
        if let Some(user) = acts.refund {
            take_back(&mut connection, user, &done).await?;
        }
    }
    Ok(())
}

async fn take_back(connection: &mut PgConnection, user: i64, done: &Done) -> Result<(), DemoError> {
    let made = sqlx::query(TAKE_BACK).bind(user).execute(connection).await?;
    done.changed.fetch_add(made.rows_affected(), Ordering::Relaxed);
    Ok(())
}

async fn buy(connection: &mut PgConnection, bought: &[Purchase], done: &Done) -> Result<(), DemoError> {
    let users: Vec<i64> = bought.iter().map(|purchase| purchase.user).collect();
    let cents: Vec<i64> = bought.iter().map(|purchase| purchase.cents).collect();
    let merchants: Vec<&str> = bought.iter().map(|purchase| purchase.merchant).collect();
    let made = sqlx::query(INSERT).bind(users).bind(cents).bind(merchants).execute(connection).await?;
    done.changed.fetch_add(made.rows_affected(), Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_minute_has_of_everything() {
        let mut script = Script::new(7);
        let (mut spent, mut mistakes, mut refunded) = (BTreeMap::<i64, i64>::new(), 0, Vec::new());
        for _ in 0..1_200 {
            let acts = script.next_tick();
            for purchase in &acts.purchases {
                *spent.entry(purchase.user).or_default() += purchase.cents;
            }
            mistakes += acts.mistakes.len();
            refunded.extend(acts.refund);
        }
        let over = spent.values().filter(|cents| **cents > 300_000).count();
        assert!((4..=8).contains(&over), "{over} sprees");
        assert!((12..=18).contains(&mistakes), "{mistakes} mistakes");
        assert_eq!(refunded.len(), 1);
        assert!(spent.len() > 1_500, "{} people", spent.len());
    }

    #[test]
    fn a_seed_gives_the_same_again() {
        let draw = |seed| {
            let mut script = Script::new(seed);
            (0..100).map(|_| script.next_tick()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
