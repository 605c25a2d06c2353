//! `tripline archive` on real servers: what is in its Parquet files, as DuckDB and pyarrow read them, is what Kafka has,
//! each record once, whatever happens to the process, to its folders and to its group.
//!
//! - `books`: the topic beside the files
//! - `canonical`: the stack's own table of orders
//! - `changes`: every kind of change, the current state; `columns`: added and dropped; `types`: every type of Postgres
//! - `limits`: epochs of other sizes, interrupted ones; `layers`: folder, group and output lost, moved, doubled
//! - `places`: ended at every place that `src` names; `kills`: killed at random, while somebody reads
//! - `wrong`: what is set up wrongly

#[path = "archive/books.rs"]
mod books;
#[path = "archive/canonical.rs"]
mod canonical;
#[path = "archive/changes.rs"]
mod changes;
#[path = "archive/columns.rs"]
mod columns;
#[path = "archive/kills.rs"]
mod kills;
#[path = "archive/layers.rs"]
mod layers;
#[path = "archive/limits.rs"]
mod limits;
#[path = "archive/places.rs"]
mod places;
#[path = "archive/types.rs"]
mod types;
#[path = "archive/wrong.rs"]
mod wrong;
