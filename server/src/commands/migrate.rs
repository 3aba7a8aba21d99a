//! `aibuyer-server migrate`: brings ClickHouse's tables up to date.

use std::{fmt::Write as _, fs};

use aibuyer_features::{Connection, schema};

use super::serve::AnyError;
use crate::config::{ClickHouseConfig, Config};

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

/// Reads the password from its file.
fn connection(config: &ClickHouseConfig) -> Result<Connection, AnyError> {
    let password = match &config.password_file {
        None => None,
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|e| format!("clickhouse.password_file = {}: {e}", path.display()))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    Ok(Connection {
        url: config.url.clone(),
        database: config.database.clone(),
        user: (!config.username.is_empty()).then(|| config.username.clone()),
        password,
    })
}
