//! The servers that are down, and the log lines about that: one outage, even if it makes many calls fail. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Server;

/// How long an outage lasts before the log repeats it once.
const LOGGED_AFTER: Duration = Duration::from_secs(10);
/// How often the log repeats it after that.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The server has become unreachable.
    Away,
    /// The server is still unreachable, after this time and this many failed attempts.
    StillAway(Duration, u64),
    /// The server is reachable again, after this time.
    Back(Duration),
}

/// The servers that are down.
#[derive(Debug)]
pub(super) struct Servers(BTreeMap<Server, Down>);

#[derive(Debug)]
struct Down {
    since: Instant,
    logged: Instant,
    failures: u64,
    /// The callers whose last attempt has failed.
    callers: BTreeSet<u64>,
}

impl Servers {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Records that an attempt of this caller has failed.
    pub(super) fn failed(&mut self, server: Server, caller: u64, now: Instant) -> Option<Line> {
        let Some(down) = self.0.get_mut(&server) else {
            let callers = BTreeSet::from([caller]);
            self.0.insert(server, Down { since: now, logged: now, failures: 1, callers });
            return Some(Line::Away);
        };
        down.failures = down.failures.saturating_add(1);
        down.callers.insert(caller);
        let every = if down.logged == down.since { LOGGED_AFTER } else { LOGGED_EVERY };
        if now.duration_since(down.logged) < every {
            return None;
        }
        down.logged = now;
        Some(Line::StillAway(now.duration_since(down.since), down.failures))
    }

    /// Records that an attempt of this caller has succeeded. The outage is over when no caller's last attempt has
    /// failed, because the clients of a process reconnect one after the other.
    pub(super) fn succeeded(&mut self, server: Server, caller: u64, now: Instant) -> Option<Line> {
        let down = self.0.get_mut(&server)?;
        down.callers.remove(&caller);
        if !down.callers.is_empty() {
            return None;
        }
        let since = down.since;
        self.0.remove(&server);
        Some(Line::Back(now.duration_since(since)))
    }

    /// Records that this caller makes no more attempts. The next success of another caller shows whether the server is
    /// back.
    pub(super) fn forget(&mut self, caller: u64) {
        for down in self.0.values_mut() {
            down.callers.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_one_end() {
        let mut servers = Servers::new();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let after = Duration::from_secs;
        assert_eq!(servers.succeeded(Server::Kafka, 1, at(0)), None);
        assert_eq!(servers.failed(Server::Kafka, 1, at(0)), Some(Line::Away));
        assert_eq!(servers.failed(Server::Kafka, 2, at(1)), None);
        assert_eq!(servers.failed(Server::Postgres, 2, at(2)), Some(Line::Away));
        assert_eq!(servers.failed(Server::Kafka, 1, at(9)), None);
        assert_eq!(servers.failed(Server::Kafka, 2, at(11)), Some(Line::StillAway(after(11), 4)));
        assert_eq!(servers.failed(Server::Kafka, 1, at(70)), None);
        assert_eq!(servers.failed(Server::Kafka, 1, at(71)), Some(Line::StillAway(after(71), 6)));
        // One client is back before the other.
        assert_eq!(servers.succeeded(Server::Kafka, 1, at(80)), None);
        assert_eq!(servers.succeeded(Server::Kafka, 3, at(81)), None);
        assert_eq!(servers.failed(Server::Kafka, 2, at(82)), None);
        assert_eq!(servers.succeeded(Server::Kafka, 2, at(83)), Some(Line::Back(after(83))));
        assert_eq!(servers.succeeded(Server::Kafka, 2, at(84)), None);
        // The one whose attempt failed is gone: the next success of any other ends it.
        servers.forget(2);
        assert_eq!(servers.succeeded(Server::Postgres, 9, at(85)), Some(Line::Back(after(83))));
        assert_eq!(servers.failed(Server::Postgres, 9, at(90)), Some(Line::Away));
    }
}
