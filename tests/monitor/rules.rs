//! Rules that are renamed, removed or changed while something is open: what is carried, what ends, and why.

use std::collections::BTreeMap;

use super::crash::{check_settled, read_or_die};
use super::support::{SPEND, Told, World, firing, resolved, rule, told};
use tripline::episode::EpisodeId;
use tripline::rule::Rule;

const RECENT: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total \
     FROM public.transactions WHERE created_at >= NOW() - INTERVAL '1 day' \
     GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

/// Rule, what was told, episode and reason.
type Line = (String, Told, EpisodeId, Option<String>);

fn lines(world: &World) -> Vec<Line> {
    let line = |alert: &tripline::alert::Alert| {
        let body: serde_json::Value = serde_json::from_str(&alert.body).unwrap();
        let reason = body.get("reason").map(|reason| reason.as_str().unwrap().to_owned());
        assert_eq!(body["rule"], alert.rule);
        (alert.rule.clone(), told(alert), alert.episode, reason)
    };
    world.sinks.alerts().iter().map(line).collect()
}

fn brief(lines: &[Line]) -> Vec<(&str, Told, Option<&str>)> {
    lines.iter().map(|(rule, told, _, reason)| (rule.as_str(), *told, reason.as_deref())).collect()
}

/// Users 3 and 7 are over.
async fn two_open(rules: Vec<Rule>) -> World {
    let mut world = World::new();
    world.rules = rules;
    for id in 0..10 {
        world.create(id, id, if id == 3 || id == 7 { "3000.01" } else { "1000.00" });
    }
    world.read().await;
    world
}

/// From the folder, from its log alone, or from the recovery topic.
const FROM: [&str; 3] = ["folder", "log", "topic"];

fn lose(world: &World, from: &str) {
    match from {
        "log" => std::fs::remove_dir_all(world.folder_path().join("state")).unwrap(),
        "topic" => world.lose_folder(),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_renamed_rule_goes_on_under_its_new_name() {
    for from in FROM {
        let mut world = two_open(vec![rule("old", SPEND)]).await;
        world.rules = vec![rule("new", SPEND)];
        lose(&world, from);
        assert_eq!(world.read().await.fired, 0, "{from}");
        world.want(&[firing(3), firing(7)]);
        // It is carried in the recovery topic as well, once and for all.
        lose(&world, "topic");
        world.update(3, 3, "1.00");
        world.read().await;
        lose(&world, "topic");
        world.read().await;
        let lines = lines(&world);
        let want = [("old", firing(3), None), ("old", firing(7), None), ("new", resolved(3), Some("condition"))];
        assert_eq!(brief(&lines), want, "{from}");
        assert_eq!(lines[2].2, lines[0].2, "{from}: the same episode");
        world.rules = vec![rule("newer", SPEND)];
        world.update(7, 7, "1.00");
        lose(&world, from);
        world.read().await;
        assert_eq!(world.told()[3], resolved(7), "{from}");
        assert_eq!(world.told().len(), 4, "{from}");
    }
}

/// Two rules of one meaning came: it is not known which of them is the old one.
#[tokio::test(start_paused = true)]
async fn a_rename_that_is_not_clear_is_none() {
    let mut world = two_open(vec![rule("old", SPEND)]).await;
    world.rules = vec![rule("new", SPEND), rule("newer", SPEND)];
    world.read().await;
    let mut got = lines(&world);
    got.drain(..2);
    got.sort_by_key(|(rule, told, ..)| (rule.clone(), told.0));
    let want = [
        ("new", firing(3), None),
        ("new", firing(7), None),
        ("newer", firing(3), None),
        ("newer", firing(7), None),
        ("old", resolved(3), Some("rule_removed")),
        ("old", resolved(7), Some("rule_removed")),
    ];
    assert_eq!(brief(&got), want);
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_rule_has_open_is_resolved() {
    for from in FROM {
        let mut world = two_open(vec![rule("kept", SPEND), rule("gone", RECENT)]).await;
        assert_eq!(world.told().len(), 4);
        world.rules = vec![rule("kept", SPEND)];
        lose(&world, from);
        let counts = world.read().await;
        assert_eq!((counts.fired, counts.resolved), (0, 2), "{from}");
        let before = lines(&world);
        let want = [("gone", resolved(3), Some("rule_removed")), ("gone", resolved(7), Some("rule_removed"))];
        assert_eq!(brief(&before)[4..], want, "{from}");
        // It shows what the alert that opened it does.
        let bodies: Vec<BTreeMap<String, serde_json::Value>> =
            world.sinks.alerts().iter().map(|alert| serde_json::from_str(&alert.body).unwrap()).collect();
        let opened = bodies.iter().find(|body| body["rule"] == "gone" && body["key"]["user_id"] == 3).unwrap();
        let ended = &bodies[4];
        for field in ["key", "message", "severity", "having", "rule_version", "episode", "group", "lineage"] {
            assert_eq!(ended[field], opened[field], "{from}: {field}");
        }
        // Once and for all.
        for from in FROM {
            world.read().await;
            lose(&world, from);
        }
        world.read().await;
        assert_eq!(lines(&world), before, "{from}");
        check_settled(&world, from);
    }
}

/// Neither the recovery topic nor anything else knows what the alert was like.
#[tokio::test(start_paused = true)]
async fn what_a_removed_rule_has_open_is_resolved_without_its_first_alert() {
    let mut world = two_open(vec![rule("kept", SPEND), rule("gone", RECENT)]).await;
    world.rules = vec![rule("kept", SPEND)];
    world.sinks.lose_recovery_topic();
    assert_eq!(world.read().await.resolved, 2);
    let alerts = world.sinks.alerts();
    let record = tripline::alert::record::AlertRecord::parse(&alerts[4].body).unwrap();
    assert_eq!((record.rule.as_str(), record.status.as_str()), ("gone", "resolved"));
    assert_eq!(record.key["user_id"], 3);
    assert_eq!(alerts[4].record_key, "gone|3");
}

#[tokio::test(start_paused = true)]
async fn a_threshold_raised_resolves_what_no_longer_holds() {
    for from in FROM {
        let mut world = two_open(vec![rule("spend", SPEND)]).await;
        world.update(3, 3, "9000.00");
        world.read().await;
        world.rules = vec![rule("spend", &SPEND.replace("3000", "5000"))];
        lose(&world, from);
        // The database is away: the reason waits with the candidate.
        world.db.go_away(Some("away"));
        drop(read_or_die(&world, 400).await);
        world.db.go_away(None);
        world.read().await;
        let lines = lines(&world);
        assert_eq!(brief(&lines)[2..], [("spend", resolved(7), Some("rule_changed"))], "{from}");
        world.update(3, 3, "1.00");
        world.read().await;
        assert_eq!(world.told().last(), Some(&resolved(3)), "{from}");
        let reason = self::lines(&world).last().unwrap().3.clone();
        assert_eq!(reason.as_deref(), Some("condition"), "{from}: the rule is the same as before");
    }
}

#[tokio::test(start_paused = true)]
async fn another_group_by_resolves_what_is_open() {
    let by_row = "SELECT id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total \
         FROM public.transactions GROUP BY id HAVING SUM(ABS(amount)) > 300000";
    for from in FROM {
        let mut world = two_open(vec![rule("spend", SPEND)]).await;
        let mut other = rule("spend", by_row);
        other.message = tripline::rule::message::Template::parse("{total}", &["total"]).unwrap();
        world.rules = vec![other];
        lose(&world, from);
        world.read().await;
        let want = [("spend", resolved(3), Some("rule_changed")), ("spend", resolved(7), Some("rule_changed"))];
        assert_eq!(brief(&lines(&world))[2..], want, "{from}");
    }
}

/// Killed anywhere while the rules change: each end is told once, and nothing else.
#[tokio::test(start_paused = true)]
async fn killed_anywhere_while_rules_are_removed_and_renamed() {
    let want = |world: &World| {
        let mut lines = lines(world);
        lines.sort_by_key(|(rule, told, ..)| (rule.clone(), told.0));
        lines.into_iter().map(|(rule, told, _, reason)| (rule, told, reason)).collect::<Vec<_>>()
    };
    let start = || two_open(vec![rule("old", SPEND), rule("gone", RECENT)]);
    let undisturbed = {
        let mut world = start().await;
        world.rules = vec![rule("new", SPEND)];
        world.read().await;
        want(&world)
    };
    assert_eq!(undisturbed.len(), 6);
    for from in FROM {
        let mut kills = 0;
        for polls in 1.. {
            let mut world = start().await;
            world.rules = vec![rule("new", SPEND)];
            lose(&world, from);
            let ended = read_or_die(&world, polls).await;
            world.read().await;
            lose(&world, "topic");
            world.read().await;
            assert_eq!(want(&world), undisturbed, "{from}: polls {polls}");
            check_settled(&world, from);
            if ended.is_some() {
                break;
            }
            kills += 1;
        }
        assert!(kills >= 10, "{from}: {kills} places to be killed at");
    }
}
