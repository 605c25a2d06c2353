//! Whether a run of this configuration is alive on this machine and makes progress.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::progress;
use super::progress::view::ProgressView;
use crate::checkpoint::Folder;
use crate::config::Config;
use crate::failure::Exit;
use crate::host;
use crate::http;
use crate::progress::group::GroupMember;
use crate::progress::lag;
use crate::web::READINESS_HEADER;

/// The timeout for the run's own page, which asks Postgres in turn.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks the run. Returns a text about its state.
///
/// # Errors
/// The run is not alive or makes no progress, or its state cannot be found out.
pub async fn check(config: &Config, stalled_after: i64) -> Result<String, String> {
    // Only the run knows a port that the system chose.
    if let Some(page) = config.web.as_ref().map(|web| here(web.listen)).filter(|page| page.port() != 0) {
        return by_the_page(page).await;
    }
    let (dir, group) = (&config.checkpoint.dir, &config.kafka.group_id);
    let is_locked = Folder::is_locked(dir, group).map_err(|error| error.to_string())?;
    let view = progress::view(config).await;
    if !is_locked {
        let next_start = view.map(|view| format!("; the next start {}", view.text())).unwrap_or_default();
        return Err(format!("no run is alive here: no process works on {}{next_start}", dir.join(group).display()));
    }
    let view = match view {
        Ok(view) => view,
        Err(failure) if failure.exit == Exit::Unreachable => {
            return Ok(format!("alive; whether it makes progress is not known: {}", failure.message));
        }
        Err(failure) => return Err(failure.message),
    };
    if is_standby(&view.group.members, host::instance(&dir.join(group)).as_deref()) {
        return Ok("alive; it is a standby: another instance is the group's active member".to_owned());
    }
    let found = evaluate(&Facts::of(&view), stalled_after);
    let next_start = format!("; a start now {}", view.text());
    found.map(|text| text + &next_start).map_err(|text| text + &next_start)
}

/// Returns the address at which this machine reaches a listening socket.
fn here(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        _ => listen,
    }
}

/// The answer of `/readyz`: its status, the state in its header, its text.
struct Readiness {
    status: u16,
    state: Option<String>,
    text: String,
}

/// Asks the run's own page.
async fn by_the_page(page: SocketAddr) -> Result<String, String> {
    let asked = tokio::task::spawn_blocking(move || -> Result<Readiness, ureq::Error> {
        let mut answer = http::client(PAGE_TIMEOUT).get(format!("http://{page}/readyz")).call()?;
        let state = answer.headers().get(READINESS_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Readiness { status: answer.status().as_u16(), state, text: answer.body_mut().read_to_string()? })
    });
    match asked.await {
        Ok(Ok(readiness)) => is_alive(&readiness),
        Ok(Err(error)) => Err(format!("no run answers at {page}: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an answer of `/readyz` comes from a run that is alive and not stalled.
fn is_alive(readiness: &Readiness) -> Result<String, String> {
    let shown = readiness.text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    match (readiness.status, readiness.state.as_deref()) {
        (200 | 503, Some("stalled")) => Err(format!("no progress: {shown}")),
        (200 | 503, Some(_)) => Ok(format!("alive: {shown}")),
        (status, _) => Err(format!("another program answers: HTTP status {status}, without {READINESS_HEADER}")),
    }
}

/// Whether another instance is an active member of the group and this one is not. Members that are not instances of
/// Tripline, such as a console consumer, do not count.
fn is_standby(members: &[GroupMember], instance: Option<&str>) -> bool {
    let Some(instance) = instance else { return false };
    members.iter().any(is_instance) && !members.iter().any(|member| member.is_of(instance))
}

/// Whether a member's id begins with a name that [`host::instance`] gives.
fn is_instance(member: &GroupMember) -> bool {
    let name = member.id.strip_prefix("tripline-").and_then(|rest| rest.split_once('-')).map(|(name, _)| name);
    name.is_some_and(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The facts that show whether a run makes progress.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// The number of unread records.
    lag: i64,
    /// The age in seconds of the oldest unread record, where it is known.
    oldest: Option<i64>,
    /// The seconds since the newest epoch was closed.
    since_epoch: Option<i64>,
}

impl Facts {
    fn of(view: &ProgressView) -> Self {
        let since_epoch = view.folder.as_ref().map(|folder| lag::seconds_since(folder.at, view.now));
        Self { lag: view.lag(), oldest: view.oldest_age(), since_epoch }
    }
}

/// Whether a run that is alive makes progress.
fn evaluate(facts: &Facts, stalled_after: i64) -> Result<String, String> {
    let Facts { lag, oldest, since_epoch } = *facts;
    let is_quiet = since_epoch.is_none_or(|since| since > stalled_after);
    match oldest {
        Some(seconds) if lag > 0 && seconds > stalled_after && is_quiet => {
            let epoch =
                since_epoch.map_or("none was ever closed".to_owned(), |since| format!("the last one {since} s ago"));
            Err(format!("no progress: {lag} records unread, the oldest {seconds} s old, and no epoch closed: {epoch}"))
        }
        _ => Ok(format!("alive; {lag} records unread")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_progress() {
        let check = |lag: i64, oldest: Option<i64>, since_epoch: Option<i64>, healthy: bool| {
            let facts = Facts { lag, oldest, since_epoch };
            let found = evaluate(&facts, 120);
            assert_eq!(found.is_ok(), healthy, "{facts:?}: {found:?}");
        };
        check(0, None, Some(1_000), true); // nothing to do for long
        check(5, Some(121), Some(121), false);
        check(5, Some(121), Some(120), true); // works off a backlog
        check(5, Some(120), Some(1_000), true); // has just come
        check(5, None, Some(1_000), true); // not known how old
        check(5, Some(999), None, false);
    }

    #[test]
    fn who_is_a_standby() {
        let check = |members: &[&str], instance: Option<&str>, want: bool| {
            let member = |id: &&str| GroupMember {
                id: (*id).to_owned(),
                client: "tripline".to_owned(),
                host: "10.0.0.1".to_owned(),
            };
            let members: Vec<GroupMember> = members.iter().map(member).collect();
            assert_eq!(is_standby(&members, instance), want, "{members:?} {instance:?}");
        };
        let name = |digit: &str| format!("tripline-{}", digit.repeat(32));
        let of = |digit: &str| format!("{}-550e8400-e29b-41d4-a716-446655440000", name(digit));
        let (me, mine, other) = (name("a"), of("a"), of("b"));
        let again = mine.replace("-550e", "-1-550e");
        let me = Some(me.as_str());
        check(&[&other], me, true);
        check(&[&mine], me, false);
        check(&[&again], me, false);
        check(&[&other, &mine], me, false); // takes over, or is taken over from
        check(&[], me, false); // is about to join
        check(&[&other], None, false); // which instance this is cannot be told
        // A console consumer and a run to the end do not make this instance a standby.
        check(&["console-consumer-550e8400-e29b-41d4-a716-446655440000"], me, false);
        check(&["tripline-550e8400-e29b-41d4-a716-446655440000"], me, false);
    }

    #[test]
    fn what_the_page_says() {
        let check = |status: u16, state: Option<&str>, healthy: bool| {
            let readiness = Readiness { status, state: state.map(str::to_owned), text: "stalled\n".to_owned() };
            assert_eq!(is_alive(&readiness).is_ok(), healthy, "{status} {state:?}");
        };
        check(200, Some("ready"), true);
        check(503, Some("not-ready"), true);
        check(503, Some("stalled"), false);
        check(503, None, false);
        check(200, None, false);
        check(404, Some("ready"), false);
    }

    #[test]
    fn where_the_page_is() {
        let check = |listen: &str, want: &str| assert_eq!(here(listen.parse().unwrap()).to_string(), want);
        check("127.0.0.1:8787", "127.0.0.1:8787");
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.1.2.3:1", "10.1.2.3:1");
    }
}
