//! Predictions of a model version against what came of them.
//!
//! The platform knows no outcome of a single prediction, only impressions and clicks of a campaign. So both are brought
//! to *cells*, a campaign of an account in an hour (UTC): the mean of its scores, and its impressions and clicks.
//! Campaigns whose predictions name no account are taken over all accounts.

use std::time::Instant;

use ::clickhouse::{Row, query::Query};
use serde::Deserialize;

use super::{Analytics, AnalyticsError, Turn};

/// Which rows of the prediction log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u64,
    /// From this second since 1970 on; a full hour, so that predictions and metrics are of the same time.
    pub since: u32,
    /// Before this one; a full hour too.
    pub until: u32,
}

/// Cells of similar scores.
#[derive(Debug, Clone, PartialEq, Deserialize, Row)]
pub struct Cells {
    /// From 1 up by score; 0 for cells that have only predictions or only impressions.
    pub bin: u32,
    /// Cells.
    pub cells: u64,
    /// Least mean score.
    pub lowest: f64,
    /// Greatest mean score.
    pub highest: f64,
    /// Predictions.
    pub predictions: u64,
    /// Predictions for which defaults stood in for features.
    pub fallbacks: u64,
    /// Impressions.
    pub impressions: u64,
    /// Clicks, in each cell at most as many as impressions.
    pub clicks: u64,
    /// Clicks beyond those: of earlier hours' impressions.
    pub clicks_beyond: u64,
    /// Impressions times mean score, summed.
    pub predicted_clicks: f64,
    /// Log loss summed over impressions, in nats.
    pub loss: f64,
}

/// All cells of a part of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// Cells with predictions and impressions, by score, with about the same number of impressions each.
    pub bins: Vec<Cells>,
    /// Cells without impressions, or without predictions.
    pub alone: Option<Cells>,
}

impl Analytics {
    /// Predictions against observed clicks, in at most `bins` bins.
    ///
    /// # Errors
    /// [`AnalyticsError`] says what to do.
    pub async fn scored(&self, log: &Log, bins: u32, deadline: Instant) -> Result<Scored, AnalyticsError> {
        let turn = self.turn(deadline).await?;
        let query = of_log(&turn, include_str!("predictions.sql"), log).bind(bins);
        let mut bins: Vec<Cells> = turn.rows(query).await?;
        let alone = bins.iter().position(|cells| cells.bin == 0).map(|at| bins.remove(at));
        Ok(Scored { bins, alone })
    }
}

/// A query whose first places say which rows of the log.
pub(super) fn of_log(turn: &Turn, sql: &str, log: &Log) -> Query {
    let query = turn.query(sql).bind(log.model.as_str()).bind(log.version.to_string());
    query.bind(log.since).bind(log.until)
}
