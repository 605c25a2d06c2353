//! `[archive]`: its settings, its defaults, and what is wrong with them.

use tripline::config;
use tripline::progress::StartAt;

use super::{README, load};

fn load_archive(text: &str) -> Result<config::ArchiveConfig, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let origin = file.path().display().to_string();
    config::load_archive(file.path(), []).map_err(|error| error.to_string().replace(&origin, "FILE"))
}

#[test]
fn an_archive_and_its_defaults() {
    let shown = load_archive(include_str!("../../config/archive.toml")).unwrap();
    assert_eq!(shown.archive.partition_by.as_deref(), Some("created_at"));
    assert!(shown.postgres.is_some());
    // Neither a group of [kafka], nor a topic of [source], nor a database, nor rules.
    let text = "[archive]\ntopic = \"t\"\ngroup_id = \"g\"\ncheckpoint_dir = \"c\"\noutput_path = \"o\"";
    let config = load_archive(text).unwrap();
    assert_eq!((config.kafka.group_id.as_str(), config.source.topic.as_str()), ("g", "t"));
    assert_eq!(config.postgres, None);
    let archive = config.archive;
    assert_eq!((archive.max_offsets_per_trigger, archive.trigger_interval.as_millis()), (1_000, 5_000));
    assert_eq!((archive.partition_by, archive.starting_offsets), (None, StartAt::Earliest));
    assert_eq!(archive.when_group_is_missing, config::WhenGroupIsMissing::Resume);
    // The same file may be the monitor's.
    assert!(load(format!("{README}\n{text}"), &[]).is_ok());
    assert!(load_archive(&format!("{README}\n{text}")).is_ok());
}

#[test]
fn what_is_wrong_with_an_archive() {
    let check = |text: &str, want: &str| assert_eq!(load_archive(text).map(drop), Err(want.to_owned()), "{text}");
    let required = "required, and not set; write it in the file or set TRIPLINE__ARCHIVE__";
    let all = [("topic", "TOPIC"), ("group_id", "GROUP_ID"), ("checkpoint_dir", "CHECKPOINT_DIR")];
    let all = all.map(|(key, name)| format!("FILE: archive.{key}: {required}{name}"));
    let output = format!("FILE: archive.output_path: {required}OUTPUT_PATH");
    check("", &format!("{}\n{output}", all.join("\n")));
    let with = |more: &str| {
        format!("[archive]\ntopic = \"t\"\ngroup_id = \"g\"\ncheckpoint_dir = \"c\"\noutput_path = \"o\"\n{more}")
    };
    check(
        &with("max_offsets_per_trigger = 0"),
        "FILE: archive.max_offsets_per_trigger: must be a whole number from 1 to 100000000; it is 0",
    );
    check(
        &with("").replace("\"o\"", "\"c/out\""),
        "FILE: archive.output_path: and checkpoint_dir must not lie in one another; rename one",
    );
    // The same place by two names.
    let here = std::env::current_dir().unwrap().join("c/out");
    check(
        &with("").replace("\"o\"", &format!("{here:?}")),
        "FILE: archive.output_path: and checkpoint_dir must not lie in one another; rename one",
    );
    check(
        &with("[source]\ndead_letter_topic = \"t\""),
        "FILE: source.dead_letter_topic: must not be t too, the topic of archive.topic; rename one",
    );
    let unknown = load_archive(&with("outptu = 1")).map(drop).unwrap_err();
    assert!(unknown.contains("archive.outptu: unknown key"), "{unknown}");
}
