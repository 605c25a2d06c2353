//! Where a start goes on from: `src/progress/start.rs`, `fn compare`, in the terms of the model. `tests/model` holds the two
//! against each other for every combination of a few files.

use crate::folder::{File, Folder};
use crate::rules::{Rule, Rules};

/// What a start does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Goes on after the folder's newest epoch.
    Resume {
        /// The newest epoch that Kafka has.
        committed: Option<u8>,
    },
    /// Goes on from the group's offsets in its lineage.
    Rebuild {
        /// The group's epoch.
        from: File,
    },
    /// Begins a new lineage, since there is no progress at all.
    First,
    /// Begins a new lineage although there is progress: offsets were moved, or the group was deleted. Nobody does that in the
    /// model.
    Again,
    /// Stops with exit code 5: the recovery topic does not have the group's epoch.
    Stop,
}

/// Decides.
pub fn decide(folder: &Folder, group: Option<File>, progress: Option<File>, rules: Rules) -> Start {
    let rebuild = |from: File| if progress == Some(from) { Start::Rebuild { from } } else { Start::Stop };
    let Some(newest) = folder.newest() else {
        return group.map_or(Start::First, rebuild);
    };
    if !rules.keep(Rule::CompareWithGroup) {
        return Start::Resume { committed: None };
    }
    let is_starting = folder.files.len() == 1 && !folder.is_finished;
    if is_starting && folder.origin == group {
        return Start::Resume { committed: None };
    }
    let Some(group) = group else { return Start::Again };
    if group.lineage != newest.lineage {
        return rebuild(group);
    }
    match folder.logged(group.epoch) {
        None => rebuild(group),
        Some(file) if file != group && rules.keep(Rule::ChecksumInCommit) => rebuild(group),
        Some(file) if file.next != group.next => Start::Again,
        Some(_) => Start::Resume { committed: Some(group.epoch) },
    }
}
