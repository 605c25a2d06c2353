//! Every alert is proved, and none is lost: what Postgres has not shown raises nothing, and what it shows is delivered
//! once, even if it was down in between.
//!
//! - `server`: a PostgreSQL of the test's own, which it may stop, starve or push to another epoch
//! - `feed`: the changes of its table in Kafka, as Debezium writes them
//! - `refuted`: the stream says yes and the database no, and halves of transactions and of changes
//! - `away`: the database stopped, its sessions killed, no connection available
//! - `refused`: statements that time out or fail, for all keys or for one
//! - `many`: 20,000 users at once
//! - `hanging`: changes in Kafka whose commit is not visible yet
//! - `moved`: the database goes on on another server
//! - `passing`: time alone fires and resolves
//! - `epochs`: transaction ids past 2^32
//! - `histories`: random tables and clocks, against a naive model and against Postgres itself

mod away;
mod epochs;
pub(crate) mod feed;
mod hanging;
mod histories;
mod many;
mod moved;
mod passing;
mod refused;
mod refuted;
pub(crate) mod server;
