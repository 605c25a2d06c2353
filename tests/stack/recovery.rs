//! Where a run goes on from after whatever has happened to it, to its checkpoint folder, to its group and to its
//! topic; and who works when there are several. Every test ends with one alert each: on the topic, as a reader of
//! committed records sees it, and in the table.
//!
//! - `world`: a table, its stream, instances, what they have told; `run`: a process; `cluster`: Kafka by hand
//! - `layers`: the folder lost or old, the group deleted or moved, the topic cut or made anew
//! - `killed`: killed at the very moments that look like something else
//! - `folder`: two processes on one, files that are damaged, no space
//! - `zombies`: stopped, replaced and continued
//! - `turns`: who works when several could; a slow database is no reason to lose the group
//! - `partitions`: added to the topic
//! - `outages`: Kafka away, or forgetful; `broker`: one of the test's own

#[path = "recovery/broker.rs"]
pub mod broker;
#[path = "recovery/cluster.rs"]
pub mod cluster;
#[path = "recovery/folder.rs"]
mod folder;
#[path = "recovery/killed.rs"]
mod killed;
#[path = "recovery/layers.rs"]
mod layers;
#[path = "recovery/outages.rs"]
mod outages;
#[path = "recovery/partitions.rs"]
mod partitions;
#[path = "recovery/run.rs"]
pub mod run;
#[path = "recovery/turns.rs"]
mod turns;
#[path = "recovery/world.rs"]
mod world;
#[path = "recovery/zombies.rs"]
mod zombies;
