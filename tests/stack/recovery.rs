//! Where a run continues after any damage to itself, its checkpoint folder, its group or its topic, and which instance
//! works if there are several. Every test ends with each alert once: on the topic, as a reader of committed records
//! sees it, and in the table.
//!
//! - `world`: a table, its stream, instances, and their alerts
//! - `run`: a process
//! - `cluster`: Kafka by hand
//! - `layers`: the folder lost or old, the group deleted or moved, the topic cut or re-created
//! - `decision`: a start does what every command announced
//! - `killed`: killed at moments that look like something else
//! - `folder`: two processes on one folder, damaged files, no space
//! - `zombies`: stopped, replaced and continued
//! - `turns`: which instance works if several could, and a slow database does not cost the group
//! - `partitions`: added to the topic
//! - `lines`: the log lines about an outage
//! - `outages`: Kafka is down, or loses data
//! - `broker`: a broker of the test's own

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
