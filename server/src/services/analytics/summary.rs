//! Campaigns by day.

use std::time::Instant;

use aibuyer_domain::forecast::Timestamp;
use aibuyer_features::analytics::{Analytics as Past, Day, Page, Selection, Totals};
use aibuyer_proto::serving::v1 as pb;
use tonic::Status;

use super::Violations;
use crate::status;

const MOST_DAYS: u32 = 400;
const MOST_CAMPAIGNS: usize = 1000;
const MOST_ROWS: usize = 10_000;
const USUAL_ROWS: usize = 1000;
/// Longest name of an account or campaign, in bytes.
const LONGEST: usize = 500;

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct Question {
    of: Selection,
    page: Page,
}

impl Question {
    pub(super) fn read(request: pb::CampaignSummaryRequest) -> Result<Self, Status> {
        let mut wrong = Violations::default();
        if request.user_id.is_empty() {
            wrong.add("user_id", "is required: the account whose campaigns are meant");
        } else if request.user_id.len() > LONGEST {
            wrong.add("user_id", format!("is longer than {LONGEST} bytes"));
        }
        if request.campaign_ids.len() > MOST_CAMPAIGNS {
            let reason = format!("{} are more than {MOST_CAMPAIGNS}: ask in parts", request.campaign_ids.len());
            wrong.add("campaign_ids", reason);
        }
        if let Some(at) = request.campaign_ids.iter().position(|id| id.is_empty() || id.len() > LONGEST) {
            wrong.add(format!("campaign_ids[{at}]"), format!("must have 1 to {LONGEST} bytes"));
        }
        let first = wrong.or_default("first_date", day(&request.first_date));
        let last = wrong.or_default("last_date", day(&request.last_date));
        if wrong.0.is_empty() {
            if last < first {
                wrong.add("last_date", format!("{} is before {}", request.last_date, request.first_date));
            } else if u32::from(last - first) >= MOST_DAYS {
                let days = u32::from(last - first) + 1;
                wrong.add("last_date", format!("the range has {days} days, may have {MOST_DAYS}: narrow it"));
            }
        }
        let rows = match request.page_size as usize {
            0 => USUAL_ROWS,
            rows if rows <= MOST_ROWS => rows,
            rows => {
                wrong.add("page_size", format!("is {rows}, may be {MOST_ROWS}"));
                0
            }
        };
        let after = wrong.or_default("page_token", position(&request.page_token));
        wrong.check()?;
        let of = Selection { user_id: request.user_id, campaign_ids: request.campaign_ids, first, last };
        Ok(Self { of, page: Page { fill: request.fill_empty_days, after, rows } })
    }
}

/// The answer from ClickHouse.
pub(super) async fn answer(
    past: &Past,
    question: Question,
    deadline: Instant,
) -> Result<pb::CampaignSummaryResponse, Status> {
    let Question { of, mut page } = question;
    let (rows, first_page) = (page.rows, page.after.is_none());
    // One more tells whether there is another page.
    page.rows += 1;
    let answer = past.days(&of, &page, first_page, deadline).await;
    let (mut days, totals) = answer.map_err(|e| status::from_analytics(&e))?;
    let more = days.len() > rows;
    days.truncate(rows);
    let last = days.last().filter(|_| more);
    Ok(pb::CampaignSummaryResponse {
        next_page_token: last.map(|last| format!("{}/{}", last.campaign_id, last.day)).unwrap_or_default(),
        days: days.into_iter().map(row).collect(),
        totals: totals.as_ref().map(sums),
    })
}

fn row(day: Day) -> pb::CampaignDay {
    let Day { campaign_id, day: _, date, impressions, clicks, spend, conversions } = day;
    let figures = Some(figures(impressions, clicks, spend, conversions));
    pb::CampaignDay { campaign_id, date, figures }
}

fn sums(of: &Totals) -> pb::CampaignTotals {
    let figures = Some(figures(of.impressions, of.clicks, of.spend, of.conversions));
    pb::CampaignTotals { campaigns: of.campaigns, campaign_days: of.days, figures }
}

#[allow(clippy::cast_precision_loss)] // a rate of so great counts is right all the same
fn figures(impressions: u64, clicks: u64, spend: f64, conversions: u64) -> pb::CampaignFigures {
    let ctr = (impressions > 0).then(|| clicks as f64 / impressions as f64);
    pb::CampaignFigures { impressions, clicks, spend, conversions, ctr }
}

/// Days since 1970-01-01, as many as ClickHouse's dates reach.
fn day(text: &str) -> Result<u16, String> {
    const DAY: i64 = 86_400_000_000;
    if text.is_empty() {
        return Err("is required, such as 2026-05-01".to_owned());
    }
    let date = Timestamp::parse(text).ok().filter(|_| text.len() == 10);
    let date = date.ok_or_else(|| format!("{text:?} is not a date: write it as 2026-05-01"))?;
    u16::try_from(date.micros() / DAY).map_err(|_| format!("{text} is not within 1970-01-01 and 2149-06-06"))
}

/// The row that a page comes after.
fn position(token: &str) -> Result<Option<(String, u16)>, String> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.rsplit_once('/').and_then(|(campaign, day)| Some((campaign.to_owned(), day.parse().ok()?)));
    parsed.filter(|(campaign, _)| campaign.len() <= LONGEST).map(Some).ok_or_else(|| {
        "is not the next_page_token of a reply: send it as it came, or nothing for the first page".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_1970() {
        for (text, expect) in [
            ("1970-01-01", Some(0)),
            ("2026-11-16", Some(20_773)),
            ("2149-06-06", Some(u16::MAX)),
            ("2149-06-07", None),
            ("1969-12-31", None),
            ("2026-02-29", None),
            ("2026-11-16T00:00:00", None),
            ("16.11.2026", None),
            ("", None),
        ] {
            assert_eq!(day(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn a_token_is_a_place_between_rows() {
        assert_eq!(position(""), Ok(None));
        assert_eq!(position("a/b/20773"), Ok(Some(("a/b".to_owned(), 20_773))));
        assert!(position("a").is_err() && position("a/x").is_err() && position("a/70000").is_err());
    }
}
