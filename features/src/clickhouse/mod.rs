//! Rows from ClickHouse, one query for many keys.
//!
//! Each answer names its columns and types, and they are checked before any value is read: a table that changed under
//! a running engine is an error, not a wrong number.

mod decode;
mod wire;

use std::time::Duration;

use ::clickhouse::Client;

use crate::{
    CallError, Connection,
    call::bounded,
    connection::quoted,
    store::{FeatureStore, Fetch, Rows, StoreError},
    view::{EntityKey, FeatureView},
};

/// Takes 2,048 of the longest keys with every byte escaped.
const MAX_QUERY_BYTES: &str = "4194304";

/// Reads feature views from a database.
#[derive(Clone)]
pub struct ClickHouseStore {
    client: Client,
    url: String,
    within: Duration,
}

impl ClickHouseStore {
    /// Each query must answer `within` the time; then it is given up here and ended there.
    #[must_use]
    pub fn new(connection: &Connection, within: Duration) -> Self {
        let client = connection
            .client()
            // A reader whose settings may still be set; only its queries end when the connection closes.
            .with_setting("readonly", "2")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("max_execution_time", format!("{:.3}", within.as_secs_f64()))
            .with_setting("max_query_size", MAX_QUERY_BYTES)
            .with_setting("max_threads", "1");
        Self { client, url: connection.url.clone(), within }
    }

    /// Whether the view's table is there and has its columns.
    ///
    /// # Errors
    /// When it has not, or ClickHouse does not answer.
    pub async fn check(&self, view: &FeatureView) -> Result<(), StoreError> {
        self.query(view, &[]).await.map(drop)
    }

    async fn query(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<Rows, StoreError> {
        let keys: Vec<&str> = keys.iter().map(EntityKey::as_str).collect();
        let query = self.client.query(&select(view)).bind(keys);
        let call = async { query.fetch_bytes("RowBinaryWithNamesAndTypes")?.collect().await };
        let answer = bounded(&self.url, self.within, call).await.map_err(|error| failure(view, error))?;
        decode::rows(view, &answer).map_err(|reason| schema(view, reason))
    }
}

impl FeatureStore for ClickHouseStore {
    fn fetch<'a>(&'a self, view: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        Box::pin(self.query(view, keys))
    }
}

/// The query, with a place for the keys.
fn select(view: &FeatureView) -> String {
    // A question mark in a name would be taken for a place.
    let name = |name: &str| quoted(name).replace('?', "??");
    let columns = [view.key, view.computed_at].into_iter().chain(view.columns.iter().map(|c| c.name.as_str()));
    let columns: Vec<String> = columns.map(name).collect();
    format!("SELECT {} FROM {} WHERE {} IN ?", columns.join(", "), name(view.table), name(view.key))
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
