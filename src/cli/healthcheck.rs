//! `tripline healthcheck`: whether a run of this configuration is alive here and makes progress, for containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::offsets::{self, Standing};
use super::{Exit, run};
use crate::checkpoint::Folder;
use crate::clock::{Clock, SystemClock};
use crate::host;
use crate::job::JobError;
use crate::model::Timestamp;

/// How long the run's own page may take to answer, which asks Postgres in turn.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const NOTES: &str = "\
It is to run on the machine, or in the container, of the run. With [web] it asks the run itself, by /readyz: alive, unless it
says that it is stalled; one that stands by, rebuilds its windows, waits for Postgres or pauses at a bound is alive. Without [web] it looks at
the lock of the checkpoint folder and at Kafka: with records unread for longer than --stalled-after and no epoch closed in
that time, a run makes no progress. While the group's active member is another instance, this one stands by, and is alive
as long as it holds the lock; the progress is the other's. While the broker is away a run waits for it, and no restart
would help: it is alive.

Exit codes, of which containers know only these:
  0  alive
  1  not alive, no progress, or not to be told";

/// Arguments of `tripline healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Seconds that records may be unread while no epoch is closed; without [web] only
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub stalled_after: u32,
}

/// Looks, and says what it found.
///
/// # Errors
/// A [`Failure`] with exit code 1 always, as a container's engine knows no other.
pub async fn healthcheck(args: &HealthcheckArgs) -> Result<(), Failure> {
    let unhealthy = |message: String| Failure::new(Exit::Failed, message);
    let config = run::configured(&args.config).map_err(|failure| unhealthy(failure.message))?;
    // A port that was chosen freely is known to the run alone.
    if let Some(page) = config.web.as_ref().map(|web| here(web.listen)).filter(|page| page.port() != 0) {
        return offsets::print(&[by_the_page(page).await.map_err(unhealthy)?]);
    }
    let (dir, group) = (&config.checkpoint.dir, &config.kafka.group_id);
    let locked = Folder::is_locked(dir, group).map_err(|error| unhealthy(JobError::from(error).to_string()))?;
    if !locked {
        return Err(unhealthy(format!("no process works on {}: no run is alive here", dir.join(group).display())));
    }
    let progress = match offsets::standing(&config).await {
        Ok(progress) => progress,
        Err(Failure { exit: Exit::Unreachable, message }) => {
            return offsets::print(&[format!("alive; whether it makes progress cannot be told: {message}")]);
        }
        Err(failure) => return Err(unhealthy(failure.message)),
    };
    let instance = host::instance(&dir.join(group));
    if stands_by(&progress.members, instance.as_deref()) {
        return offsets::print(&["alive; it stands by, as the group has another active member".to_owned()]);
    }
    let shown = judge(&progress, SystemClock::default().now(), i64::from(args.stalled_after)).map_err(unhealthy)?;
    offsets::print(&[shown])
}

/// Where this machine reaches what listens there.
fn here(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        _ => listen,
    }
}

/// Asks servers by HTTP, through no proxy; an answer of any status is an answer.
pub(super) fn agent(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout)).proxy(None);
    config.build().into()
}

/// What the run says of itself.
async fn by_the_page(page: SocketAddr) -> Result<String, String> {
    let asked = tokio::task::spawn_blocking(move || -> Result<(u16, String), ureq::Error> {
        let mut answer = agent(PAGE_TIMEOUT).get(format!("http://{page}/readyz")).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    });
    match asked.await {
        Ok(Ok((status, text))) => ready(status, &text),
        Ok(Err(error)) => Err(format!("no run answers at {page}: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether what `/readyz` says is that of a run that is alive and not stalled.
fn ready(status: u16, text: &str) -> Result<String, String> {
    let shown = text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    match status {
        200 => Ok(format!("alive: {shown}")),
        503 if !text.lines().any(|line| line.starts_with("stalled ")) => Ok(format!("alive: {shown}")),
        503 => Err(format!("no progress: {shown}")),
        _ => Err(format!("what answers is no run: HTTP status {status}")),
    }
}

/// Whether another instance is an active member of the group, and this one is not. The name of an instance is what its
/// members' ids begin with, and the id stands in brackets behind what else there is to say of a member. Members that are no
/// instances, such as a console's, do nobody's work.
fn stands_by(members: &[String], instance: Option<&str>) -> bool {
    let Some(instance) = instance else { return false };
    let mine = |member: &String| member.contains(&format!("({instance}-"));
    members.iter().any(|member| is_instance(member)) && !members.iter().any(mine)
}

/// Whether a member's id begins with a name that [`host::instance`] gives.
fn is_instance(member: &str) -> bool {
    let name = member.split_once("(tripline-").and_then(|(_, rest)| rest.split_once('-')).map(|(name, _)| name);
    name.is_some_and(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a run that is alive makes progress.
fn judge(progress: &Standing, now: Timestamp, stalled_after: i64) -> Result<String, String> {
    let Standing { lag, seconds, epoch_at, .. } = progress;
    let since_epoch = epoch_at.map(|at| now.0.saturating_sub(at.0) / 1_000_000);
    let quiet = since_epoch.is_none_or(|since| since > stalled_after);
    match seconds {
        Some(seconds) if *lag > 0 && *seconds > stalled_after && quiet => {
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
        let check = |lag: i64, seconds: Option<i64>, epoch_at: Option<i64>, healthy: bool| {
            let progress = Standing {
                members: vec![],
                agreement: "agree",
                sentence: String::new(),
                unreadable: vec![],
                lag,
                seconds,
                epoch_at: epoch_at.map(|seconds| Timestamp(seconds * 1_000_000)),
            };
            let judged = judge(&progress, Timestamp(1_000_000_000), 120);
            assert_eq!(judged.is_ok(), healthy, "{progress:?}: {judged:?}");
        };
        check(0, None, Some(0), true); // nothing to do for long
        check(5, Some(121), Some(879), false);
        check(5, Some(121), Some(880), true); // works off a backlog
        check(5, Some(120), Some(0), true); // has just come
        check(5, None, Some(0), true); // not known how old
        check(5, Some(999), None, false);
    }

    #[test]
    fn who_stands_by() {
        let check = |members: &[&str], instance: Option<&str>, want: bool| {
            let members: Vec<String> = members.iter().map(|id| format!("tripline at 10.0.0.1 ({id})")).collect();
            assert_eq!(stands_by(&members, instance), want, "{members:?} {instance:?}");
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
        check(&[&other], None, false); // who it is cannot be told
        // A console, and a run to the end: neither is what it would stand by for.
        check(&["console-consumer-550e8400-e29b-41d4-a716-446655440000"], me, false);
        check(&["tripline-550e8400-e29b-41d4-a716-446655440000"], me, false);
    }

    #[test]
    fn what_the_page_says() {
        let check = |status: u16, text: &str, healthy: bool| assert_eq!(ready(status, text).is_ok(), healthy, "{text}");
        check(200, "ready\n", true);
        check(503, "not ready\nthe windows are being rebuilt\n", true);
        check(503, "not ready\nPostgres does not answer: stalled \n", true);
        check(503, "not ready\nreading pauses: limits.max_rows is reached\n", true);
        check(503, "not ready\nstalled for 61 s: there are records to read, and none comes\n", false);
        check(404, "stalled", false);
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
