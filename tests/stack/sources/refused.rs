//! What is wrong with sources is said before anything is read.

use super::{HIGH, OVER, SPEND, World, sources};
use crate::harness::Job;

#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_is_wrong_is_said() {
    let world = World::new("sources_refused");
    let (transactions, limits) = (world.topic("transactions"), world.topic("limits"));
    let check = |top: String, job: Job, want: &str| {
        let ended = Job { top: format!("startup_wait_ms = 1000\n{top}"), ..job }.try_run();
        assert_eq!(ended.code, Some(2), "{want}: {ended}");
        assert!(ended.log.iter().any(|line| line.contains(want)), "{want}: {ended}");
    };
    let of = |topics: &[&str]| sources(&topics.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>());
    let both = || world.both();
    // A topic that is not there.
    let missing = format!("[[sources]]\ntopic = \"{limits}.missing\"\ntable = \"streaming.limits\"\n");
    let want = format!("topic {limits}.missing does not exist");
    check(of(&[&transactions]) + &missing, both(), &want);
    // A table without a source.
    let memory = |rules: &[(&str, &str)]| {
        let job = world.job(&["transactions"], rules);
        Job { rule: format!("evaluate = \"memory\"\n{}", job.rule), ..job }
    };
    check(
        of(&[&transactions]),
        memory(&[HIGH, SPEND]),
        "rule high reads streaming.limits, but the topic has streaming.transactions",
    );
    // One table in two sources.
    let twice = |topic: &str| format!("[[sources]]\ntopic = \"{topic}\"\ntable = \"streaming.limits\"\n");
    check(twice(&transactions) + &twice(&limits), both(), "is the table of another source too");
    let named = format!("[[sources]]\ntopic = \"{transactions}\"\ntable = \"streaming.limits\"\n");
    check(named + &of(&[&limits]), both(), "streaming.limits would be the table of two sources");
    // A source that no rule reads.
    check(of(&[&transactions, &limits]), world.job(&[], &[SPEND]), "no rule reads a table that the topic");
    // Two tables in one topic, without what says which is which.
    let unwrapped = |table: &str| {
        format!("[[sources]]\ntopic = \"{limits}\"\ntable = \"streaming.{table}\"\nformat = \"json-unwrapped\"\n")
    };
    check(unwrapped("limits") + &unwrapped("transactions"), both(), "kept apart by the envelope");
    // Both forms.
    let job = Job { source: format!("topic = \"{limits}\"\n"), ..both() };
    check(of(&[&transactions, &limits]), job, "name it in one of those");
    // Where a join has one source, what the other table brings is found at an interval, and that is said.
    let ended = world.job(&["transactions"], &[OVER]).run();
    let want = "a change of streaming.limits, without a source, is found at an interval";
    assert!(ended.log.iter().any(|line| line.contains(want)), "{ended}");
}
