//! From settings to a connection.

use std::fs;

use aibuyer_features::Connection;

use crate::config::ClickHouseConfig;

/// Reads the password from its file.
///
/// # Errors
/// A sentence that names the setting whose file cannot be read.
pub(crate) fn connection(config: &ClickHouseConfig) -> Result<Connection, String> {
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
