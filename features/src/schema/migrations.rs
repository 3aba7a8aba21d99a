//! The migrations: SQL files, one a version, that travel in the binary.

/// A numbered step of the schema. Every statement can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its place in the order, from 1 on.
    pub version: u32,
    /// Its file's name without number and ending.
    pub name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        [$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../migrations/000", $version, "_", $name, ".sql")),
        }),+]
    };
}

/// All of them, in order.
pub const MIGRATIONS: [Migration; 7] = migrations![
    1 "campaign_metrics",
    2 "campaign_features",
    3 "user_features",
    4 "daily_campaign_summary",
    5 "campaign_features_history",
    6 "prediction_log",
    7 "prediction_log_columns",
];

impl Migration {
    /// Its statements: over HTTP each travels alone.
    pub(super) fn statements(&self) -> Vec<String> {
        let lines = self.sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let sql: String = lines.flat_map(|line| [line, "\n"]).collect();
        sql.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_and_statements_can_be_repeated() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
            let statements = migration.statements();
            assert!(!statements.is_empty());
            for statement in statements {
                let repeatable = [" IF NOT EXISTS ", " MODIFY SETTING "];
                assert!(repeatable.iter().any(|part| statement.contains(part)), "{statement}");
                assert!(!statement.contains("--"), "{statement}");
            }
        }
    }
}
