//! Both layers of progress, and the files themselves: one of them lost, moved by hand, or wanted by two. Nothing is ever
//! there twice: the run goes on as it must, or says how to.

use super::books::{check_now, committed, parquet, rows};
use crate::harness::orders::{Archive, Orders};
use crate::harness::{kafka, wait_for};
use crate::recovery::run::{Done, Run};

/// Every refusal has to name a way to continue.
#[track_caller]
fn refused(job: &Archive, parts: &[&str]) -> Done {
    let before = parquet(&job.output);
    let done = job.try_run().refused(5, parts);
    assert_eq!(parquet(&job.output), before);
    done
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_is_moved_by_hand() {
    let t = Orders::new("moved");
    let job = t.job("a");
    t.insert(1..=20);
    t.wait_in_kafka(20);
    job.run();
    for to in [0, 5, 19] {
        t.cluster.set_by_hand(&job.group, t.topic(), &[(0, to)]);
        let done = job.run();
        assert_eq!(done.count("written"), 0, "{done}");
        check_now(&job);
    }
    // Ahead of what is archived: nothing is passed over.
    t.insert(21..=30);
    t.wait_in_kafka(30);
    t.cluster.set_by_hand(&job.group, t.topic(), &[(0, 28)]);
    job.run();
    check_now(&job);
    // And while an epoch is logged.
    t.insert(31..=40);
    t.wait_in_kafka(40);
    job.with_fault("archive.file.linked").killed();
    t.cluster.set_by_hand(&job.group, t.topic(), &[(0, 3)]);
    job.run();
    check_now(&job);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_is_deleted() {
    let t = Orders::new("deleted");
    let job = t.job("a");
    t.insert(1..=20);
    t.wait_in_kafka(20);
    job.run();
    t.cluster.delete_group(&job.group);
    let reprocess = Archive { archive: "when_group_is_missing = \"reprocess\"".to_owned(), ..job.clone() };
    refused(&reprocess, &[job.output.to_str().unwrap(), "output_path"]);
    job.run();
    check_now(&job);

    t.insert(21..=30);
    t.wait_in_kafka(30);
    t.cluster.delete_group(&job.group);
    job.run();
    check_now(&job);

    // With an epoch under way.
    t.insert(31..=40);
    t.wait_in_kafka(40);
    job.with_fault("archive.file.linked").killed();
    t.cluster.delete_group(&job.group);
    job.run();
    check_now(&job);

    // Everything again, elsewhere.
    t.cluster.delete_group(&job.group);
    let elsewhere = Archive { output: job.output.with_file_name("again"), ..reprocess };
    elsewhere.run();
    check_now(&elsewhere);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_checkpoint_folder_is_lost() {
    let t = Orders::new("lost");
    let job = Archive { limit: 7, ..t.job("a") };
    t.insert(1..=20);
    t.wait_in_kafka(20);
    job.run();
    std::fs::remove_dir_all(&job.checkpoints).unwrap();
    t.insert(21..=40);
    t.wait_in_kafka(40);
    job.run();
    check_now(&job);
    // And the group has been moved meanwhile: then nobody knows but the files.
    for to in [3, 37] {
        std::fs::remove_dir_all(&job.checkpoints).unwrap();
        t.cluster.set_by_hand(&job.group, t.topic(), &[(0, to)]);
        job.run();
        check_now(&job);
    }
}

/// A topic of the same name with more records than were read of the one before: where the checkpoint folder is lost, the
/// files know it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_made_anew() {
    let t = Orders::new("anew");
    t.insert(1..=9);
    t.wait_in_kafka(9);
    let records = kafka::records(t.topic(), 0);
    let topic = format!("{}.copy", t.topic());
    t.cluster.create_topic(&topic, 1);
    kafka::produce(&topic, &records[..5]);
    let job = Archive { topic: topic.clone(), ..t.job("a") };
    assert_eq!(job.run().count("written"), 5);
    t.cluster.delete_topic(&topic);
    t.cluster.create_topic(&topic, 1);
    kafka::produce(&topic, &records);
    let what = format!("{topic} partition 0 is not the one that was read");
    refused(&job, &[&what, "deleted and created again", "an output_path apart from this one"]);
    std::fs::remove_dir_all(&job.checkpoints).unwrap();
    refused(&job, &[&what, "deleted and created again", "an output_path apart from this one"]);
    assert_eq!(rows(&job), 5);
    // As it says.
    let anew = Archive { topic, ..t.job("b") };
    assert_eq!(anew.run().count("written"), 9);
}

/// The same at work, where offsets go on as if nothing had happened.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_made_again_at_work() {
    let t = Orders::new("again_at_work");
    t.insert(1..=9);
    t.wait_in_kafka(9);
    let records = kafka::records(t.topic(), 0);
    let topic = format!("{}.copy", t.topic());
    t.cluster.create_topic(&topic, 1);
    kafka::produce(&topic, &records[..5]);
    let job = Archive { topic: topic.clone(), ..t.job("a") };
    let mut run = job.start();
    run.wait("all is written", |_| committed(&job) == [(0, 5)]);
    run.signal("STOP");
    t.cluster.delete_topic(&topic);
    t.cluster.create_topic(&topic, 1);
    kafka::produce(&topic, &records);
    run.signal("CONT");
    run.ended().refused(5, &[&format!("{topic} partition 0 is not the one that was read")]);
    assert_eq!(rows(&job), 5);
    refused(&job, &["deleted and created again"]);
}

/// A disk that is not mounted looks like an empty folder.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_output_has_gone() {
    let t = Orders::new("gone");
    let job = t.job("a");
    t.insert(1..=10);
    t.wait_in_kafka(10);
    job.run();
    let mounted = job.output.with_file_name("mounted");
    std::fs::rename(&job.output, &mounted).unwrap();
    std::fs::create_dir(&job.output).unwrap();
    t.insert(11..=15);
    t.wait_in_kafka(15);
    let said = [job.output.to_str().unwrap(), "is its disk mounted?", "the group's offsets decide"];
    refused(&job, &said);
    refused(&job, &said);
    assert_eq!(committed(&job), [(0, 10)]);
    // Mounted again, nothing is missing.
    std::fs::remove_dir_all(&job.output).unwrap();
    std::fs::rename(&mounted, &job.output).unwrap();
    assert_eq!(job.run().count("written"), 5);
    check_now(&job);
    // And in an empty one what comes from now on, as it says.
    let elsewhere = Archive { output: job.output.with_file_name("elsewhere"), ..job.clone() };
    refused(&elsewhere, &["is its disk mounted?"]);
    std::fs::rename(&job.checkpoints, job.checkpoints.with_file_name("aside")).unwrap();
    t.insert(16..=18);
    t.wait_in_kafka(18);
    assert_eq!(elsewhere.run().count("written"), 3);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn both_layers_are_lost() {
    let t = Orders::new("both");
    let job = t.job("a");
    t.insert(1..=20);
    t.wait_in_kafka(20);
    job.run();
    t.insert(21..=30);
    t.wait_in_kafka(30);
    std::fs::remove_dir_all(&job.checkpoints).unwrap();
    t.cluster.delete_group(&job.group);
    job.run();
    check_now(&job);
    // In the middle of an epoch, with one of its files there.
    let job = Archive { limit: 10, ..t.job("b") };
    job.with_fault("archive.file.linked:4").killed();
    std::fs::remove_dir_all(&job.checkpoints).unwrap();
    t.cluster.delete_group(&job.group);
    job.run();
    check_now(&job);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn folders_are_for_one_job() {
    let t = Orders::new("owner");
    let job = t.job("a");
    t.insert(1..=10);
    t.wait_in_kafka(10);
    job.run();

    // Another group.
    let other = t.job("b");
    refused(
        &Archive { output: job.output.clone(), ..other.clone() },
        &[job.output.to_str().unwrap(), &job.group, "output_path"],
    );
    refused(
        &Archive { checkpoints: job.checkpoints.clone(), ..other.clone() },
        &[job.checkpoints.to_str().unwrap(), &job.group],
    );
    assert_eq!(committed(&other), []);
    // Another topic.
    let second = t.second("_second", &[]);
    let topic = Archive { topic: second.topic.clone(), ..job.clone() };
    t.insert(11..=12);
    t.wait_in_kafka(12);
    wait_for("the second topic has records", || (crate::harness::kafka::end_of(&second.topic) > 0).then_some(()));
    refused(&topic, &[job.checkpoints.to_str().unwrap(), t.topic(), &second.topic]);
    let away = Archive { checkpoints: other.checkpoints.clone(), ..topic };
    refused(&away, &[job.output.to_str().unwrap(), t.topic(), &second.topic]);
    // The owner's second instance, with another checkpoint folder: it is the same job, and goes on.
    let moved = Archive { checkpoints: other.checkpoints.with_file_name("moved"), ..job.clone() };
    moved.run();
    check_now(&moved);
    // The folder of before is an old copy now.
    job.run();
    check_now(&job);
}

/// One process works. The other one is refused, or stands by and does nothing.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn two_processes_at_once() {
    let t = Orders::new("two");
    let job = t.job("a");
    t.insert(1..=10);
    t.wait_in_kafka(10);
    let mut first = job.start();
    first.wait("the first has archived it", |_| committed(&job) == [(0, 10)]);
    // On both folders, on the output alone, on the checkpoints alone.
    job.try_run().refused(5, &["in use"]);
    let here = |name: &str| job.checkpoints.with_file_name(name);
    Archive { checkpoints: here("checkpoints-2"), ..job.clone() }
        .try_run()
        .refused(5, &[job.output.to_str().unwrap(), "in use"]);
    Archive { output: here("output-2"), ..job.clone() }
        .try_run()
        .refused(5, &[job.checkpoints.to_str().unwrap(), "in use"]);
    // With folders of its own, but of the same group: it waits for its turn.
    let beside = Archive { checkpoints: here("checkpoints-3"), output: here("output-3"), ..job.clone() };
    let second = beside.start();
    t.insert(11..=30);
    t.wait_in_kafka(30);
    first.wait("the first has archived that, too", |_| committed(&job) == [(0, 30)]);
    let second: Done = Run::kill(second);
    assert_eq!(rows(&beside), 0, "{second}");
    first.terminate();
    check_now(&job);

    // Started at the same moment, several times over.
    for round in 0..3_i64 {
        let (from, to) = (31 + 10 * round, 40 + 10 * round);
        t.insert(from..=to);
        t.wait_in_kafka(to);
        let both = [job.start(), job.start()];
        wait_for("one of them has archived it", || (committed(&job) == [(0, to)]).then_some(()));
        let codes = both.map(|run| {
            run.signal("TERM");
            run.ended().code()
        });
        assert!(codes.contains(&Some(0)) && codes.iter().all(|code| [Some(0), Some(5)].contains(code)), "{codes:?}");
        check_now(&job);
    }
}
