//! Rows from ClickHouse, one query for many keys or for all.
//!
//! Each answer names its columns and types, and they are checked before any value is read: a table that changed under
//! a running engine is an error, not a wrong number.

mod decode;
mod wire;

use std::time::Duration;

use ::clickhouse::{Client, query::Query};

use self::decode::Decoder;
use crate::{
    CallError, Connection,
    call::bounded,
    connection::quoted,
    store::{FeatureStore, Fetch, Rows, StoreError},
    view::{EntityKey, FeatureView},
};

/// Reads feature views from a database.
#[derive(Clone)]
pub struct ClickHouseStore {
    client: Client,
    url: String,
    within: Duration,
}

impl ClickHouseStore {
    /// Each query of keys must answer `within` the time; then it is given up here and ended there.
    #[must_use]
    pub fn new(connection: &Connection, within: Duration) -> Self {
        let client = connection.reader(1);
        Self { client, url: connection.url.clone(), within }
    }

    /// Whether the view's table is there and has its columns.
    ///
    /// # Errors
    /// When it has not, or ClickHouse does not answer.
    pub async fn check(&self, view: &FeatureView) -> Result<(), StoreError> {
        self.some(view, &[]).await.map(drop)
    }

    /// Runs a statement whose answer is rows of the view.
    async fn query(&self, view: &FeatureView, query: Query, most: u64, within: Duration) -> Result<Rows, StoreError> {
        let query = query.with_setting("max_execution_time", format!("{:.3}", within.as_secs_f64()));
        let call = async {
            let mut answer = query.fetch_bytes("RowBinaryWithNamesAndTypes")?;
            let mut decoder = Decoder::new(view, most);
            while let Some(part) = answer.next().await? {
                if let Err(error) = decoder.push(&part) {
                    return Ok(Err(error));
                }
            }
            Ok(decoder.end())
        };
        bounded(&self.url, within, call).await.map_err(|error| failure(view, error))?
    }

    async fn some(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Rows, StoreError> {
        let keys: Vec<&str> = keys.iter().map(EntityKey::as_str).collect();
        let select = format!("{} WHERE {} IN ?", select(view), name(view.key));
        // As many rows as keys at most: no bound is needed.
        self.query(view, self.client.query(&select).bind(keys), u64::MAX, self.within).await
    }
}

impl FeatureStore for ClickHouseStore {
    fn fetch<'a>(&'a self, view: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        Box::pin(self.some(view, keys))
    }

    fn fetch_all<'a>(&'a self, view: &'a FeatureView, most: u64, within: Duration) -> Fetch<'a> {
        Box::pin(self.query(view, self.client.query(&select(view)), most, within))
    }
}

/// All rows of the view.
fn select(view: &FeatureView) -> String {
    let columns = [view.key, view.computed_at].into_iter().chain(view.columns.iter().map(|c| c.name.as_str()));
    let columns: Vec<String> = columns.map(name).collect();
    format!("SELECT {} FROM {}", columns.join(", "), name(view.table))
}

/// A name in a statement, where a question mark would be taken for a place.
fn name(name: &str) -> String {
    quoted(name).replace('?', "??")
}

fn schema(view: &FeatureView, reason: String) -> StoreError {
    StoreError::Schema { view: view.name, table: view.table, reason: reason.into() }
}

fn failure(view: &FeatureView, error: CallError) -> StoreError {
    if error.is_schema() {
        return schema(view, error.to_string());
    }
    StoreError::Call { view: view.name, table: view.table, error: error.into() }
}
