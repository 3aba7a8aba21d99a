//! `aibuyer-server migrate`: brings ClickHouse's tables up to date.

use std::fmt::Write as _;

use aibuyer_features::schema;

use super::serve::AnyError;
use crate::{clickhouse::connection, config::Config};

/// Does what is to do and says what it did.
///
/// # Errors
/// When ClickHouse is not configured, cannot be used, or holds tables that this version does not know.
pub async fn run(config: &Config) -> Result<String, AnyError> {
    let Some(clickhouse) = &config.clickhouse else {
        return Err("clickhouse.url is not set: where are the tables to be made?".into());
    };
    let report = schema::migrate(&connection(clickhouse)?, clickhouse.migrate_timeout).await?;
    let mut text = String::new();
    let database = &clickhouse.database;
    if report.created_database {
        let _ = writeln!(text, "created database {database}");
    }
    for migration in &report.applied {
        let _ = writeln!(text, "applied {} {}", migration.version, migration.name);
    }
    let _ = writeln!(text, "database {database} is at schema version {}", report.version);
    Ok(text)
}
