//! `tripline archive` on real servers. The Parquet files, as DuckDB and pyarrow read them, have each of Kafka's records
//! once, after any failure of the process, the folders and the group.
//!
//! - `believed`: assumptions that are checked again, and values that are not made up
//! - `books`: the topic beside the files
//! - `canonical`: the stack's own table of orders
//! - `changes`: every kind of change, and the current state
//! - `columns`: added and dropped columns
//! - `types`: every type of Postgres
//! - `limits`: epochs of other sizes, and interrupted ones
//! - `layers`: folder, group and output lost, moved, doubled
//! - `late`: requests and answers that arrive late, get lost or are repeated
//! - `places`: killed at every place that `src` names
//! - `kills`: killed at random, while a reader reads
//! - `wrong`: invalid setups

mod believed;
pub mod books;
mod canonical;
mod changes;
mod columns;
mod kills;
mod late;
mod layers;
mod limits;
mod places;
pub mod types;
mod wrong;
