//! A run is killed while its windows are still being rebuilt, the rules are renamed, removed or changed, and it starts again:
//! episodes are carried or resolved as ARCHITECTURE's table says, none of them twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crash::{check_settled, die_after};
use super::support::{SPEND, Told, World, firing, resolved, rule, told};
use tripline::rule::Rule;
use tripline::run_status::Phase;

const RECENT: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total \
     FROM public.transactions WHERE created_at >= NOW() - INTERVAL '1 day' \
     GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

/// Where the run that is killed rebuilds its windows from.
const FROM: [&str; 3] = ["topic, with the folder", "topic, without the folder", "table"];

/// Rule, what was delivered, and why it was resolved.
type Line = (String, Told, Option<String>);

fn lines(world: &World) -> Vec<Line> {
    let line = |alert: &tripline::alert::Alert| {
        let body: serde_json::Value = serde_json::from_str(&alert.body).unwrap();
        let reason = body.get("reason").map(|reason| reason.as_str().unwrap().to_owned());
        (alert.rule.clone(), told(alert), reason)
    };
    let mut lines: Vec<Line> = world.sinks.alerts().iter().map(line).collect();
    lines.sort_unstable_by(|one, other| (&one.0, one.1.0, &one.2).cmp(&(&other.0, other.1.0, &other.2)));
    lines
}

/// Users 3 and 7 are over: 3 by far.
async fn two_open(rules: &[Rule], carry: bool) -> World {
    let mut world = World::new();
    world.settings.carry_episodes = carry;
    world.topic.set_batch_records(1);
    world.rules = rules.to_vec();
    for id in 0..10 {
        world.create(id, id, if id == 3 { "9000.00" } else { "100.00" });
    }
    world.create(10, 7, "2900.01");
    world.read().await;
    world
}

fn lose(world: &World, from: &str) {
    match from {
        "topic, with the folder" => std::fs::remove_dir_all(world.folder_path().join("state")).unwrap(),
        "topic, without the folder" => world.lose_folder(),
        _ => {
            world.lose_folder();
            world.topic.retain_from(0, 2);
        }
    }
}

/// Each episode has fired once. After nobody is over any more, each has been resolved once.
async fn check_each_once(world: &World, seen: &str) {
    let count = |world: &World| {
        let mut count: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        for alert in world.sinks.alerts() {
            let (fired, resolved) = count.entry((alert.key.clone(), alert.episode)).or_default();
            match alert.status {
                tripline::episode::Status::Firing => *fired += 1,
                tripline::episode::Status::Resolved => *resolved += 1,
            }
        }
        count
    };
    for id in [3, 7, 10] {
        world.update(id, if id == 10 { 7 } else { id }, "1.00");
    }
    world.read().await;
    for (episode, counts) in count(world) {
        assert_eq!(counts, (1, 1), "{seen}: {episode:?} fired and was resolved");
    }
    check_settled(world, seen);
}

struct Case {
    name: &'static str,
    before: Vec<Rule>,
    /// Those of the run that is killed.
    killed: Vec<Rule>,
    after: Vec<Rule>,
    carry: bool,
    /// The alerts after the two of each rule of `before`, if the killed run has left nothing behind.
    want: Vec<(&'static str, Told, Option<&'static str>)>,
}

/// The alerts of undisturbed runs with these rules, one after the other.
async fn undisturbed(case: &Case, from: &str, runs: &[&Vec<Rule>]) -> Vec<Line> {
    let mut world = two_open(&case.before, case.carry).await;
    lose(&world, from);
    for rules in runs {
        world.rules.clone_from(rules);
        world.read().await;
    }
    lines(&world)
}

async fn check(case: Case) {
    for from in FROM {
        let direct = undisturbed(&case, from, &[&case.after]).await;
        let through = undisturbed(&case, from, &[&case.killed, &case.after]).await;
        let mut want: Vec<Line> = case
            .before
            .iter()
            .flat_map(|rule| [3, 7].map(|user| (rule.name.clone(), firing(user), None)))
            .chain(case.want.iter().map(|(rule, told, reason)| ((*rule).to_owned(), *told, reason.map(str::to_owned))))
            .collect();
        want.sort_unstable_by(|one, other| (&one.0, one.1.0, &one.2).cmp(&(&other.0, other.1.0, &other.2)));
        assert_eq!(direct, want, "{}, {from}", case.name);
        let mut rebuilding = 0;
        for polls in 1.. {
            let seen = format!("{}, {from}, polls {polls}", case.name);
            let mut world = two_open(&case.before, case.carry).await;
            world.rules.clone_from(&case.killed);
            lose(&world, from);
            let mut monitor = world.monitor();
            let status = Arc::clone(&monitor.status);
            let ended = die_after(monitor.run(std::future::pending()), polls).await;
            drop(monitor);
            if ended.is_none() && status.snapshot().phase == Phase::Rebuilding {
                rebuilding += 1;
            }
            world.rules.clone_from(&case.after);
            world.read().await;
            let got = lines(&world);
            assert!(got == direct || got == through, "{seen}: {got:#?}\nwanted {direct:#?}\nor {through:#?}");
            // Once and for all, also where only Kafka knows it.
            world.read().await;
            world.lose_folder();
            world.read().await;
            assert_eq!(lines(&world), got, "{seen}");
            check_each_once(&world, &seen).await;
            if ended.is_some() {
                break;
            }
        }
        assert!(rebuilding >= 4, "{}, {from}: killed {rebuilding} times while it rebuilt", case.name);
    }
}

fn spend(name: &str) -> Rule {
    rule(name, SPEND)
}

fn recent(name: &str) -> Rule {
    rule(name, RECENT)
}

fn raised(name: &str) -> Rule {
    rule(name, &SPEND.replace("3000", "5000"))
}

#[tokio::test(start_paused = true)]
async fn a_rule_renamed_after_a_rebuild_was_cut_off() {
    let cases =
        [("renamed", "old", vec![]), ("renamed twice", "between", vec![]), ("renamed as before", "new", vec![])];
    for (name, killed, want) in cases {
        check(Case {
            name,
            before: vec![spend("old"), recent("other")],
            killed: vec![spend(killed), recent("other")],
            after: vec![spend("new"), recent("other")],
            carry: true,
            want,
        })
        .await;
    }
    check(Case {
        name: "renamed and back",
        before: vec![spend("old")],
        killed: vec![spend("new")],
        after: vec![spend("old")],
        carry: true,
        want: vec![],
    })
    .await;
    check(Case {
        name: "names swapped",
        before: vec![spend("one"), recent("other")],
        killed: vec![spend("one"), recent("other")],
        after: vec![recent("one"), spend("other")],
        carry: true,
        want: vec![],
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_removed_after_a_rebuild_was_cut_off() {
    let removed = || vec![("gone", resolved(3), Some("rule_removed")), ("gone", resolved(7), Some("rule_removed"))];
    let both = || vec![spend("kept"), recent("gone")];
    let kept = || vec![spend("kept")];
    check(Case { name: "removed", before: both(), killed: both(), after: kept(), carry: true, want: removed() }).await;
    check(Case { name: "removed before", before: both(), killed: kept(), after: kept(), carry: true, want: removed() })
        .await;
    check(Case { name: "removed and back", before: both(), killed: kept(), after: both(), carry: true, want: vec![] })
        .await;
    // A rule takes the name of another, of whose meaning it is not: that one counts as changed.
    check(Case {
        name: "renamed to a name that is gone",
        before: both(),
        killed: kept(),
        after: vec![spend("gone")],
        carry: true,
        want: vec![("kept", resolved(3), Some("rule_removed")), ("kept", resolved(7), Some("rule_removed"))],
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_changed_after_a_rebuild_was_cut_off() {
    let one = |rule: Rule| vec![rule];
    let changed = || vec![("spend", resolved(7), Some("rule_changed"))];
    let cases = [
        ("raised", spend("spend"), raised("spend"), changed()),
        ("raised before", raised("spend"), raised("spend"), changed()),
        ("raised and back", raised("spend"), spend("spend"), vec![]),
        (
            "raised under another name",
            spend("spend"),
            raised("new"),
            vec![
                ("spend", resolved(3), Some("rule_removed")),
                ("spend", resolved(7), Some("rule_removed")),
                ("new", firing(3), None),
            ],
        ),
        (
            "raised, then under another name",
            raised("spend"),
            raised("new"),
            vec![
                ("spend", resolved(3), Some("rule_removed")),
                ("spend", resolved(7), Some("rule_removed")),
                ("new", firing(3), None),
            ],
        ),
    ];
    for (name, killed, after, want) in cases {
        let before = one(spend("spend"));
        check(Case { name, before, killed: one(killed), after: one(after), carry: true, want }).await;
    }
    check(Case {
        name: "changed, refire",
        before: one(spend("spend")),
        killed: one(spend("spend")),
        after: one(raised("spend")),
        carry: false,
        want: vec![
            ("spend", resolved(3), Some("rule_changed")),
            ("spend", resolved(7), Some("rule_changed")),
            ("spend", firing(3), None),
        ],
    })
    .await;
}
