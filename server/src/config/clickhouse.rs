//! Where ClickHouse is.

use std::{path::PathBuf, time::Duration};

use super::{ConfigError, reader::Reader};

/// A ClickHouse database; secrets are named, not held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouseConfig {
    /// Base URL.
    pub url: String,
    /// The database.
    pub database: String,
    /// User; empty for the server's default.
    pub username: String,
    /// File of their password.
    pub password_file: Option<PathBuf>,
    /// How long one statement of a migration may take.
    pub migrate_timeout: Duration,
}

impl ClickHouseConfig {
    /// `None` where no URL is set; the other settings are checked even so.
    pub(super) fn new(r: &Reader) -> Result<Option<Self>, ConfigError> {
        let url = r.text("clickhouse.url")?;
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(r.fail("clickhouse.url", "needs a URL such as \"http://clickhouse:8123\""));
        }
        let database = r.text("clickhouse.database")?;
        if database.is_empty() || database == "default" {
            return Err(r.fail("clickhouse.database", "needs a database of its own, such as \"aibuyer\""));
        }
        let username = r.text("clickhouse.username")?;
        let password_file = r.path("clickhouse.password_file")?;
        if username.is_empty() != password_file.is_none() {
            return Err(
                r.fail("clickhouse.password_file", "goes together with clickhouse.username: set both or neither")
            );
        }
        let migrate_timeout = r.duration("clickhouse.migrate_timeout", Duration::from_secs(1))?;
        Ok((!url.is_empty()).then_some(Self { url, database, username, password_file, migrate_timeout }))
    }
}
