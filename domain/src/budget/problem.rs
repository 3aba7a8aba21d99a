//! From campaigns as they were given to a checked problem.

use std::collections::BTreeSet;

use super::{
    curve::Curve,
    error::BudgetError,
    relax::Item,
    response::{Bad, Response},
};

/// Least and greatest spend, in units of the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpendBounds {
    /// Least spend, 0 or more.
    pub min: f64,
    /// Greatest spend, `min` or more; `None` for no bound but the budget.
    pub max: Option<f64>,
}

/// When a campaign spends.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// One spend over the whole period.
    Whole(SpendBounds),
    /// One spend a day; day `d` answers `p f(x / p)` with `p = potential[d]`.
    Daily {
        /// The forecast's volume of each day, 0 or more, 1 where the curve holds as it stands. A day of 0 answers nothing.
        potential: Vec<f64>,
        /// Bounds of each day's spend.
        bounds: SpendBounds,
    },
}

/// A campaign to spend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// Its name in replies and errors.
    pub id: String,
    /// What it answers to spend.
    pub curve: Curve,
    /// When it spends, and how much at least and at most.
    pub schedule: Schedule,
}

/// A budget problem that can be solved: every field is in range and the minima can be afforded.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) budget: f64,
    pub(super) campaigns: Vec<CheckedCampaign>,
    /// The campaigns' spends, campaign by campaign and day by day.
    pub(super) items: Vec<Item>,
}

/// What a plan needs to know of a campaign besides its items.
#[derive(Debug, Clone)]
pub(super) struct CheckedCampaign {
    pub(super) id: String,
    /// How many items are its own.
    pub(super) items: usize,
    pub(super) daily: bool,
    /// Bounds of each of its items; infinite where there is no greatest spend.
    pub(super) min: f64,
    pub(super) max: f64,
}

/// By how much, relative to the budget, minima may exceed it: sums of decimal fractions are inexact.
const ROUNDING: f64 = 1e-12;

impl Problem {
    /// Checks a problem: spend at most `budget` on `campaigns`.
    ///
    /// # Errors
    /// [`BudgetError`] names the campaign and field that is not finite, negative or contradicts another, or says that
    /// the minima exceed the budget.
    pub fn new(budget: f64, campaigns: Vec<Campaign>) -> Result<Self, BudgetError> {
        if !(budget >= 0.0 && budget.is_finite()) {
            return Err(BudgetError::Budget(budget));
        }
        if campaigns.is_empty() {
            return Err(BudgetError::NoCampaigns);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = campaigns.iter().find(|c| !seen.insert(&c.id)) {
            return Err(BudgetError::Duplicate(twice.id.clone()));
        }
        let mut checked = Vec::with_capacity(campaigns.len());
        let mut responses = Vec::with_capacity(campaigns.len());
        for campaign in campaigns {
            let (c, r) = check(&campaign).map_err(|bad| BudgetError::Field {
                campaign: campaign.id.clone(),
                field: bad.path,
                reason: bad.reason,
            })?;
            checked.push(CheckedCampaign { id: campaign.id, ..c });
            responses.extend(r);
        }
        let needed: f64 = checked.iter().flat_map(|c| std::iter::repeat_n(c.min, c.items)).sum();
        if needed > budget * (1.0 + ROUNDING) {
            return Err(BudgetError::Infeasible { needed, budget });
        }
        let slack = (budget - needed).max(0.0);
        let bounds = checked.iter().flat_map(|c| std::iter::repeat_n((c.min, c.max), c.items));
        // What is left above all minima is the most that any one item can get.
        let items =
            bounds.zip(responses).map(|((min, max), r)| Item::new(r, min, max.min(min + slack))).collect::<Vec<_>>();
        let problem = Self { budget, campaigns: checked, items };
        problem.check_responses()?;
        Ok(problem)
    }

    /// Responses so large that they or their sum overflow a double cannot be compared.
    fn check_responses(&self) -> Result<(), BudgetError> {
        let (mut items, mut total) = (self.items.iter(), 0.0);
        for campaign in &self.campaigns {
            total += items.by_ref().take(campaign.items).map(|i| i.response.value(i.hi)).sum::<f64>();
            if !f64::is_finite(total) {
                return Err(BudgetError::Field {
                    campaign: campaign.id.clone(),
                    field: "curve".into(),
                    reason: "the summed response overflows: measure response in a larger unit".into(),
                });
            }
        }
        Ok(())
    }
}

fn check(campaign: &Campaign) -> Result<(CheckedCampaign, Vec<Response>), Bad> {
    let response = Response::new(&campaign.curve)?;
    let (bounds, prefix, days) = match &campaign.schedule {
        Schedule::Whole(bounds) => (bounds, "", None),
        Schedule::Daily { potential, bounds } => (bounds, "daily_", Some(potential)),
    };
    let SpendBounds { min, max } = *bounds;
    let bad = |field: &str, reason: String| Err(Bad { path: format!("{prefix}{field}"), reason });
    if !(min >= 0.0 && min.is_finite()) {
        return bad("min", format!("{min} must be finite and 0 or more"));
    }
    if max.is_some_and(|max| !max.is_finite()) {
        return bad("max", "must be finite: leave it out for no greatest spend".into());
    }
    if let Some(max) = max.filter(|max| *max < min) {
        return bad("max", format!("{max} is below {prefix}min {min}"));
    }
    let responses = match days {
        None => vec![response],
        Some(days) if days.is_empty() => return bad("potential", "is empty: give at least one day".into()),
        Some(days) => {
            if let Some((d, p)) = days.iter().enumerate().find(|(_, p)| !(**p >= 0.0 && p.is_finite())) {
                return bad(&format!("potential[{d}]"), format!("{p} must be finite and 0 or more"));
            }
            days.iter().map(|p| response.on_potential(*p)).collect()
        }
    };
    let checked = CheckedCampaign {
        id: String::new(),
        items: responses.len(),
        daily: days.is_some(),
        min,
        max: max.unwrap_or(f64::INFINITY),
    };
    Ok((checked, responses))
}
