//! What is there, against what should be.

use std::fmt;

use super::tables::{ALTERATIONS, Alteration, TABLES, Table};

/// What a database holds.
pub(super) struct Found {
    pub(super) tables: Vec<FoundTable>,
}

pub(super) struct FoundTable {
    pub(super) name: String,
    pub(super) engine: String,
    pub(super) columns: Vec<FoundColumn>,
}

pub(super) struct FoundColumn {
    pub(super) name: String,
    pub(super) kind: String,
}

/// One thing about a table that is not as it should be; its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// What is different.
    pub what: What,
}

/// What is different about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is of another kind.
    Engine {
        /// As it is.
        found: String,
        /// As it should be.
        wanted: &'static str,
    },
    /// A column is not there.
    Missing {
        /// The column.
        column: &'static str,
        /// Its type.
        wanted: &'static str,
    },
    /// A column has another type.
    Type {
        /// The column.
        column: &'static str,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: &'static str,
    },
    /// A column that nothing is known of, in a table that is the engine's own.
    Unknown {
        /// The column.
        column: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table;
        match &self.what {
            What::Engine { found, wanted } => {
                write!(f, "{table} is a {found}, not a {wanted}, and would give wrong sums")?;
            }
            What::Missing { column, wanted } => {
                let add = format!("ALTER TABLE {table} ADD COLUMN {column} {wanted}");
                write!(
                    f,
                    "{table} has no column {column} {wanted}: run `{add}`, with a DEFAULT where old rows need one"
                )?;
            }
            What::Type { column, found, wanted } => {
                let modify = format!("ALTER TABLE {table} MODIFY COLUMN {column} {wanted}");
                write!(f, "column {column} of {table} is {found}, not {wanted}: run `{modify}`")?;
            }
            What::Unknown { column } => {
                let drop = format!("ALTER TABLE {table} DROP COLUMN {column}");
                write!(f, "{table} has a column {column} that is not known: run `{drop}`")?;
            }
        }
        write!(f, "; or RENAME TABLE {table} to another name and migrate again, which makes it anew")
    }
}

/// All that differs, of the tables that are there, but for what a migration that is `pending` will mend.
pub(super) fn differences(found: &Found, pending: impl Fn(u32) -> bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    for table in &TABLES {
        if let Some(found) = found.tables.iter().find(|found| found.name == table.name) {
            let to_come =
                ALTERATIONS.iter().filter(|a| a.table == table.name && pending(a.version)).collect::<Vec<_>>();
            differences
                .extend(of_one(table, found, &to_come).into_iter().map(|what| Difference { table: table.name, what }));
        }
    }
    differences
}

fn of_one(table: &Table, found: &FoundTable, to_come: &[&Alteration]) -> Vec<What> {
    // The same engine, on a cluster or in the cloud.
    let engine = ["Replicated", "Shared"].iter().find_map(|p| found.engine.strip_prefix(p)).unwrap_or(&found.engine);
    if engine != table.engine {
        return vec![What::Engine { found: found.engine.clone(), wanted: table.engine }];
    }
    let mut all = Vec::new();
    for (name, kind) in table.columns() {
        match found.columns.iter().find(|column| column.name == name) {
            None if to_come.iter().any(|a| a.adds.contains(&name)) => {}
            None => all.push(What::Missing { column: name, wanted: kind }),
            Some(column) if column.kind != kind => {
                all.push(What::Type { column: name, found: column.kind.clone(), wanted: kind });
            }
            Some(_) => {}
        }
    }
    for column in &found.columns {
        let goes = to_come.iter().any(|a| a.drops.contains(&column.name.as_str()));
        if !table.shared && !goes && table.columns().all(|(name, _)| name != column.name) {
            all.push(What::Unknown { column: column.name.clone() });
        }
    }
    all
}
