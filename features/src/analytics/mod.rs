//! Questions about what has happened, put to ClickHouse: sums of campaigns by day, predictions against clicks, values of
//! features against those of the training.
//!
//! ClickHouse adds up; what comes back is small. Only a few questions run at a time and a few more wait, so that
//! analysts never take the database away from the requests that are served. A question ends there when its time is over
//! or nobody waits for its answer.

mod groups;
mod predictions;
mod summary;

use std::{sync::Arc, time::Instant};

use ::clickhouse::{Client, RowOwned, RowRead, query::Query};
use aibuyer_domain::ErrorKind;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::timeout_at,
};

pub use self::{
    groups::{Field, Groups},
    predictions::{Cells, Log, Scored},
    summary::{Day, Page, Selection, Totals},
};
use crate::{CallError, Connection, call::bounded};

/// Questions that run at a time.
const RUNNING: usize = 2;
/// Questions that may wait for those.
const WAITING: usize = 8;

/// Rows that are read in one go, some 100 µs: the thread may have other requests to serve.
const ROWS_AT_ONCE: usize = 256;
/// Answers questions from a database's tables.
#[derive(Clone)]
pub struct Analytics {
    client: Client,
    url: String,
    /// Those that run or wait.
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnalyticsError {
    /// ClickHouse did not answer.
    #[error("{0}")]
    Call(#[from] CallError),
    /// A table is not there, or not what it should be.
    #[error("{0}; run `aibuyer-server migrate`, which makes the tables and names what differs")]
    Schema(CallError),
    /// Enough others ask already.
    #[error("{RUNNING} questions about the past are being answered and {WAITING} wait: try again later")]
    Busy,
    /// The time was over before the question's turn came.
    #[error("the deadline passed while other questions were being answered: allow more time or try again later")]
    Late,
}

impl AnalyticsError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Call(CallError::Timeout { .. }) | Self::Late => ErrorKind::DeadlineExceeded,
            Self::Call(CallError::Denied { .. }) | Self::Schema(_) => ErrorKind::Unprepared,
            Self::Call(_) => ErrorKind::Dependency,
            Self::Busy => ErrorKind::Overloaded,
        }
    }
}

impl Analytics {
    /// Asks the database of a connection. Clones share the bound on questions.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        let client = connection.reader(2);
        let places = Arc::new(Semaphore::new(RUNNING + WAITING));
        Self { client, url: connection.url.clone(), places, running: Arc::new(Semaphore::new(RUNNING)) }
    }

    /// A turn to ask, once one is free.
    async fn turn(&self, deadline: Instant) -> Result<Turn<'_>, AnalyticsError> {
        let place = self.places.try_acquire().map_err(|_| AnalyticsError::Busy)?;
        let running = timeout_at(deadline.into(), self.running.acquire()).await.map_err(|_| AnalyticsError::Late)?;
        let running = running.map_err(|_| AnalyticsError::Busy)?;
        Ok(Turn { asks: self, deadline, _held: [place, running] })
    }
}

/// The right to ask until a deadline, one query after the other.
struct Turn<'a> {
    asks: &'a Analytics,
    deadline: Instant,
    _held: [SemaphorePermit<'a>; 2],
}

impl Turn<'_> {
    /// A query; each `?` of its text is a place for an argument.
    fn query(&self, sql: &str) -> Query {
        self.asks.client.query(sql)
    }

    async fn rows<T: RowOwned + RowRead>(&self, query: Query) -> Result<Vec<T>, AnalyticsError> {
        let within = self.deadline.saturating_duration_since(Instant::now());
        let query = query.with_setting("max_execution_time", format!("{:.3}", within.as_secs_f64().max(0.001)));
        let read = async {
            let mut cursor = query.fetch::<T>()?;
            let mut rows = Vec::new();
            while let Some(row) = cursor.next().await? {
                rows.push(row);
                if rows.len() % ROWS_AT_ONCE == 0 {
                    yield_now().await;
                }
            }
            Ok(rows)
        };
        bounded(&self.asks.url, within, read).await.map_err(|error| {
            if error.is_schema() { AnalyticsError::Schema(error) } else { AnalyticsError::Call(error) }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nowhere() -> Analytics {
        let connection =
            Connection { url: "http://127.0.0.1:1".to_owned(), database: "a".to_owned(), user: None, password: None };
        Analytics::new(&connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_run_a_few_wait_and_the_rest_is_refused_at_once() {
        let analytics = nowhere();
        let deadline = (tokio::time::Instant::now() + Duration::from_secs(10)).into_std();
        let first = analytics.turn(deadline).await.unwrap();
        let second = analytics.turn(deadline).await.unwrap();
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let analytics = analytics.clone();
                tokio::spawn(async move { analytics.turn(deadline).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(analytics.turn(deadline).await.map(drop), Err(AnalyticsError::Busy));
        drop(first);
        // Each that had its turn makes room for the next.
        for waits in waiting {
            waits.await.unwrap().unwrap();
        }
        let third = analytics.turn(deadline).await.unwrap();
        assert_eq!(analytics.turn(deadline).await.map(drop), Err(AnalyticsError::Late));
        drop((second, third));
        assert!(analytics.turn(deadline).await.is_ok());
    }
}
