//! In-memory fakes of everything outside of the process, with faults on demand. They are for tests. The shipped program
//! does not contain them (feature `fakes`).
//!
//! - [`topic`]: a Kafka topic with its consumer groups
//! - [`table`]: a Postgres table that answers questions about rules
//! - [`sinks`]: a broker's transactions, a table of alerts, a log
//! - [`disk`]: a file system that can lose power

pub mod disk;
pub mod sinks;
pub mod table;
pub mod topic;
