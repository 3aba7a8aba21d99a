//! Sums of an account's campaigns by day.

use std::time::Instant;

use ::clickhouse::Row;
use serde::Deserialize;

use super::{Analytics, AnalyticsError};

/// Which sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The account.
    pub user_id: String,
    /// Its campaigns; empty for all.
    pub campaign_ids: Vec<String>,
    /// First day, since 1970-01-01.
    pub first: u16,
    /// Last day, since 1970-01-01; not before the first.
    pub last: u16,
}

/// Which rows of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether a campaign that has any day of the selection gets every one.
    pub fill: bool,
    /// Only rows after this campaign and day.
    pub after: Option<(String, u16)>,
    /// At most so many.
    pub rows: usize,
}

/// One campaign's day.
#[derive(Debug, Clone, PartialEq, Deserialize, Row)]
pub struct Day {
    /// The campaign.
    pub campaign_id: String,
    /// The day, since 1970-01-01.
    pub day: u16,
    /// The same as `YYYY-MM-DD`.
    pub date: String,
    /// Times shown.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// Money spent.
    pub spend: f64,
    /// Conversions.
    pub conversions: u64,
}

/// Sums over a whole selection.
#[derive(Debug, Clone, PartialEq, Deserialize, Row)]
pub struct Totals {
    /// Campaigns with any row.
    pub campaigns: u64,
    /// Rows: days of campaigns.
    pub days: u64,
    /// Times shown.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// Money spent.
    pub spend: f64,
    /// Conversions.
    pub conversions: u64,
}

impl Analytics {
    /// A page of a selection's rows, by campaign and day, and the sums over all of it if `sums` are asked for. A row
    /// that was sent again, however late, counts as it was sent last.
    ///
    /// # Errors
    /// [`AnalyticsError`] says what to do.
    pub async fn days(
        &self,
        of: &Selection,
        page: &Page,
        sums: bool,
        deadline: Instant,
    ) -> Result<(Vec<Day>, Option<Totals>), AnalyticsError> {
        let turn = self.turn(deadline).await?;
        let selected = |sql| {
            turn.query(sql).bind(of.user_id.as_str()).bind(of.campaign_ids.as_slice()).bind(of.first).bind(of.last)
        };
        let (campaign, day) = page.after.as_ref().map_or(("", 0), |(campaign, day)| (campaign.as_str(), *day));
        let query = selected(include_str!("days.sql")).bind(campaign).bind(day).bind(page.fill).bind(page.rows);
        let days = turn.rows(query).await?;
        let totals = if sums { turn.rows(selected(include_str!("totals.sql"))).await?.pop() } else { None };
        Ok((days, totals))
    }
}
