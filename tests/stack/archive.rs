//! `tripline archive` on real servers: what is in its Parquet files, as DuckDB and pyarrow read them, is what Kafka has,
//! each record once, whatever happens to the process, to its folders and to its group.
//!
//! - `believed`: what is looked at again, and what is not made up
//! - `books`: the topic beside the files
//! - `canonical`: the stack's own table of orders
//! - `changes`: every kind of change, the current state; `columns`: added and dropped; `types`: every type of Postgres
//! - `limits`: epochs of other sizes, interrupted ones; `layers`: folder, group and output lost, moved, doubled
//! - `late`: requests and answers that come late, get lost or are repeated
//! - `places`: ended at every place that `src` names; `kills`: killed at random, while somebody reads
//! - `wrong`: what is set up wrongly

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
