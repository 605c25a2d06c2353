//! Where a run goes on from after whatever has happened to it, to its checkpoint folder, to its group and to its
//! topic; and who works when there are several. Every test ends with one alert each: on the topic, as a reader of
//! committed records sees it, and in the table.
//!
//! - `world`: a table, its stream, instances, what they have told; `run`: a process; `cluster`: Kafka by hand
//! - `layers`: the folder lost or old, the group deleted or moved, the topic cut or made anew
//! - `decision`: what is said of a start before it, by every command, is what it does
//! - `killed`: killed at the very moments that look like something else
//! - `folder`: two processes on one, files that are damaged, no space
//! - `zombies`: stopped, replaced and continued
//! - `turns`: who works when several could; a slow database is no reason to lose the group
//! - `partitions`: added to the topic
//! - `lines`: what the log says of an outage
//! - `outages`: Kafka away, or forgetful; `broker`: one of the test's own

pub mod broker;
pub mod cluster;
mod decision;
mod folder;
mod killed;
mod layers;
mod lines;
mod outages;
mod partitions;
pub mod run;
mod turns;
mod world;
mod zombies;
