//! The tables: made by numbered migrations, and compared with what this version of the engine knows.
//!
//! [`migrate`] looks first: a database from a newer engine, or a table whose columns or engine differ, is refused
//! before anything is changed. Then it runs what has not run, or whose table is gone, and looks again.

mod check;
mod migrations;
pub(crate) mod tables;

use std::time::Duration;

use ::clickhouse::{Client, Row};
use serde::Deserialize;

pub use check::Difference;
pub use migrations::{MIGRATIONS, Migration};
use tables::{ALTERATIONS, TABLES};

use crate::{
    CallError, Connection,
    call::bounded,
    connection::quoted,
    schema::check::{Found, FoundColumn, FoundTable, differences},
};

/// Where migrations are recorded. The newest row of a version counts.
const RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, \
                      applied_at DateTime64(3) DEFAULT now64(3)) ENGINE = ReplacingMergeTree(applied_at) ORDER BY version";

/// A schema that was not brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// ClickHouse did not do as told.
    #[error("{0}")]
    Call(#[from] CallError),
    /// A migration failed in the middle; each statement can be run again.
    #[error("migration {version} {name}: {error}; what it did so far stays, and running it again is safe")]
    Migration {
        /// Its number.
        version: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        error: CallError,
    },
    /// A later engine was here.
    #[error(
        "database {database} is at schema version {found}, and this aibuyer-server knows versions up to {known}: use the \
         newer one"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its version.
        found: u32,
        /// The last one known.
        known: u32,
    },
    /// Tables are not what they should be.
    #[error("database {database}: {}", .differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Differs {
        /// The database.
        database: String,
        /// All that differs.
        differences: Vec<Difference>,
    },
}

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the database had to be made.
    pub created_database: bool,
    /// The migrations that ran.
    pub applied: Vec<&'static Migration>,
    /// The version that the schema is at now.
    pub version: u32,
}

/// Brings the schema up to date; safe to repeat. Each statement must end `within` the time.
///
/// # Errors
/// When the database is from a newer engine or a table differs: before anything was changed. When a statement fails.
pub async fn migrate(connection: &Connection, within: Duration) -> Result<Report, SchemaError> {
    let database = Database { name: &connection.database, url: &connection.url, within, client: connection.client() };
    let server = Database { client: connection.server(), ..database.clone() };
    let created_database = !database.exists(&server.client).await?;
    if created_database {
        server.run(&format!("CREATE DATABASE IF NOT EXISTS {}", quoted(database.name))).await?;
    }
    let before = database.look().await?;
    let recorded = if before.tables.iter().any(|table| table.name == "schema_migrations") {
        database.recorded().await?
    } else {
        Vec::new()
    };
    let known = MIGRATIONS.last().map_or(0, |m| m.version);
    if let Some(found) = recorded.iter().copied().filter(|version| *version > known).max() {
        return Err(SchemaError::Newer { database: database.name.to_owned(), found, known });
    }
    // What a migration made or altered may be gone: then it runs again.
    let pending = |version: u32| {
        let made = TABLES.iter().filter(|table| table.version == version).map(|table| table.name);
        let altered = ALTERATIONS.iter().filter(|a| a.version == version).map(|a| a.table);
        let gone = |table| before.tables.iter().all(|found| found.name != table);
        !recorded.contains(&version) || made.chain(altered).any(gone)
    };
    database.refuse_differences(&before, pending)?;
    database.run(RECORD).await?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS.iter().filter(|migration| pending(migration.version)) {
        for statement in migration.statements() {
            let named = |error| SchemaError::Migration { version: migration.version, name: migration.name, error };
            database.run(&statement).await.map_err(named)?;
        }
        let record = format!(
            "INSERT INTO schema_migrations (version, name) VALUES ({}, '{}')",
            migration.version, migration.name
        );
        database.run(&record).await?;
        applied.push(migration);
    }
    database.refuse_differences(&database.look().await?, |_| false)?;
    Ok(Report { created_database, applied, version: known })
}

/// A database as its statements see it.
#[derive(Clone)]
struct Database<'a> {
    name: &'a str,
    url: &'a str,
    within: Duration,
    client: Client,
}

#[derive(Row, Deserialize)]
struct TableRow {
    name: String,
    engine: String,
}

#[derive(Row, Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    kind: String,
}

impl Database<'_> {
    /// Runs one statement as it is written.
    async fn run(&self, statement: &str) -> Result<(), CallError> {
        bounded(self.url, self.within, self.client.query_raw(statement).execute()).await
    }

    async fn exists(&self, server: &Client) -> Result<bool, CallError> {
        let query = server.query("SELECT count() FROM system.databases WHERE name = ?").bind(self.name);
        Ok(bounded(self.url, self.within, query.fetch_one::<u64>()).await? > 0)
    }

    async fn recorded(&self) -> Result<Vec<u32>, CallError> {
        let query = self.client.query("SELECT DISTINCT version FROM schema_migrations ORDER BY version");
        bounded(self.url, self.within, query.fetch_all::<u32>()).await
    }

    /// The tables and columns that are there.
    async fn look(&self) -> Result<Found, CallError> {
        let tables = self.client.query("SELECT name, engine FROM system.tables WHERE database = ?").bind(self.name);
        let tables = bounded(self.url, self.within, tables.fetch_all::<TableRow>()).await?;
        let columns =
            "SELECT table, name, type AS kind FROM system.columns WHERE database = ? ORDER BY table, position";
        let columns = self.client.query(columns).bind(self.name);
        let columns = bounded(self.url, self.within, columns.fetch_all::<ColumnRow>()).await?;
        let tables = tables.into_iter().map(|table| FoundTable {
            columns: columns
                .iter()
                .filter(|column| column.table == table.name)
                .map(|column| FoundColumn { name: column.name.clone(), kind: column.kind.clone() })
                .collect(),
            name: table.name,
            engine: table.engine,
        });
        Ok(Found { tables: tables.collect() })
    }

    fn refuse_differences(&self, found: &Found, pending: impl Fn(u32) -> bool) -> Result<(), SchemaError> {
        let differences = differences(found, pending);
        if differences.is_empty() {
            return Ok(());
        }
        Err(SchemaError::Differs { database: self.name.to_owned(), differences })
    }
}
