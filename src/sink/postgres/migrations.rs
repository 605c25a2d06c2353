//! The migrations of the table, built into the program: `migrations/*.sql`. The table `tripline._sqlx_migrations`
//! records which were applied. An applied migration is never edited. A change is a new migration.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, SqlSafeStr};

use crate::postgres::query_scalar;

/// The version, name and text of each migration, in order.
const ALL: [(i64, &str, &str); 4] = [
    (1, "alerts", include_str!("../../../migrations/0001_alerts.sql")),
    (2, "generations", include_str!("../../../migrations/0002_generations.sql")),
    (3, "reason", include_str!("../../../migrations/0003_reason.sql")),
    (4, "evaluated_by", include_str!("../../../migrations/0004_evaluated_by.sql")),
];

/// The table in which sqlx records the applied migrations.
const BOOKS: &str = "tripline._sqlx_migrations";

/// The result of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations applied now, as `1 alerts`.
    pub applied: Vec<String>,
    /// The number of all migrations.
    pub all: usize,
}

/// Applies the missing migrations, each in a transaction of its own. A second process that does the same waits. If none
/// is missing, the right to read sqlx's table is enough.
///
/// # Errors
/// The role may not create the schema or the table, or an applied migration differs from the one built in.
pub async fn run(connection: &mut PgConnection) -> Result<Migrated, MigrateError> {
    let before = applied(connection).await;
    let missing: Vec<String> = ALL
        .iter()
        .filter(|(version, ..)| !before.contains(version))
        .map(|(version, name, _)| format!("{version} {name}"))
        .collect();
    if !missing.is_empty() {
        migrator().run(connection).await?;
    }
    Ok(Migrated { applied: missing, all: ALL.len() })
}

/// The versions of the applied migrations. Empty if sqlx's table does not exist or may not be read.
async fn applied(connection: &mut PgConnection) -> Vec<i64> {
    let Ok(mut transaction) = connection.begin_with(super::begin_reading()).await else { return Vec::new() };
    let read = query_scalar(include_str!("applied.sql")).fetch_all(&mut *transaction).await;
    let _ = transaction.rollback().await;
    read.unwrap_or_default()
}

fn migrator() -> Migrator {
    let migrations = ALL.iter().map(|(version, name, sql)| {
        Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.create_schema("tripline");
    migrator.dangerous_set_table_name(BOOKS);
    // A newer program may have migrated the table already. Migrations only ever add to it.
    migrator.set_ignore_missing(true);
    migrator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let built_in: Vec<String> = ALL.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
        assert_eq!(files, built_in);
    }

    /// An applied migration is never edited: sqlx rejects a database with another checksum.
    #[test]
    fn texts_are_final() {
        let start = |migration: &Migration| -> String {
            migration.checksum.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        };
        let shown: Vec<String> = migrator().iter().map(start).collect();
        assert_eq!(shown, ["93e3fe309e4ec41d", "da80d4f6c7c1b243", "a9a53da300163362", "0f1f99ce675cd5d0"]);
        for (_, _, sql) in ALL {
            assert_eq!(sql, sql.to_lowercase());
        }
    }
}
