//! The answer: who spends what, and how good that is.

use super::{
    branch::solve,
    problem::{CheckedCampaign, Problem},
    relax::Item,
};

/// How hard to try. Both ends are deterministic: the same problem has the same plan on every machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Relative gap between objective and bound at which a plan is good enough.
    pub gap: f64,
    /// After so many evaluations of a campaign's best spend the best plan so far is the answer; around 100 ns each.
    pub evaluations: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { gap: 1e-9, evaluations: 10_000_000 }
    }
}

/// A bound that a spend lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The least spend.
    Min,
    /// The greatest spend.
    Max,
    /// Both: least and greatest are one.
    Fixed,
}

/// One spend of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    /// The spend.
    pub spend: f64,
    /// What it brings.
    pub response: f64,
    /// What one more unit would bring here; infinite at a spend of 0 on a curve that starts upright.
    pub marginal: f64,
    /// The bound it lies on.
    pub binding: Option<Binding>,
}

/// A campaign's share of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct CampaignPlan {
    /// The campaign's id.
    pub id: String,
    /// Its spend as a whole. With a daily schedule spend and response are sums, the marginal response is that of the
    /// best day that has room for more, and a bound binds where it binds on every day.
    pub total: Spend,
    /// Its days; empty without a daily schedule.
    pub days: Vec<Spend>,
}

/// Where to put the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The campaigns, in the problem's order.
    pub campaigns: Vec<CampaignPlan>,
    /// The summed response.
    pub objective: f64,
    /// No plan has a greater response than this (up to rounding).
    pub upper_bound: f64,
    /// `upper_bound - objective`, relative to the objective.
    pub gap: f64,
    /// The summed spend.
    pub spent: f64,
    /// What is left where every campaign is at its maximum or more spend brings nothing.
    pub unspent: f64,
    /// What one more unit of budget would bring: the greatest marginal response of a campaign that has room, which all
    /// campaigns between their bounds share. 0 where budget is left; infinite where a campaign that starts upright has
    /// nothing.
    pub shadow_price: f64,
}

/// Maximises the summed response.
///
/// Where all curves are concave the plan is optimal to rounding. Otherwise the gap is at most [`Effort::gap`], or what
/// was reached when the evaluations ran out.
#[must_use]
pub fn optimise(problem: &Problem, effort: Effort) -> Plan {
    let Problem { budget, campaigns, items } = problem;
    let solved = solve(items, *budget, effort);
    let mut pairs = items.iter().zip(&solved.spends);
    let mut next = |c: &CheckedCampaign| -> Vec<Spend> {
        pairs.by_ref().take(c.items).map(|(item, x)| spend(c, item, *x)).collect()
    };
    let campaigns: Vec<CampaignPlan> = campaigns.iter().map(|c| campaign(c, next(c))).collect();
    let spent: f64 = solved.spends.iter().sum();
    let unspent = if spent < budget * (1.0 - 1e-12) { budget - spent } else { 0.0 };
    // Where anyone was given more than the least, a campaign that starts upright and has nothing was due a spend too
    // small for a double.
    let given = items.iter().zip(&solved.spends).any(|(item, x)| *x > item.lo);
    let room = campaigns.iter().filter(|c| has_room(&c.total)).map(|c| c.total.marginal);
    let shadow_price = room.filter(|m| !given || m.is_finite()).fold(0.0, f64::max);
    let difference = (solved.upper - solved.value).max(0.0);
    Plan {
        campaigns,
        objective: solved.value,
        upper_bound: solved.upper.max(solved.value),
        gap: if difference == 0.0 { 0.0 } else { difference / solved.value },
        spent,
        unspent,
        shadow_price,
    }
}

fn spend(campaign: &CheckedCampaign, item: &Item, x: f64) -> Spend {
    let on = |bound: f64| bound.is_finite() && (x - bound).abs() <= 1e-12 * bound;
    let binding = match (on(campaign.min), on(campaign.max)) {
        (true, true) => Some(Binding::Fixed),
        (true, false) => Some(Binding::Min),
        (false, true) => Some(Binding::Max),
        (false, false) => None,
    };
    Spend { spend: x, response: item.response.value(x), marginal: item.response.slope(x), binding }
}

fn has_room(spend: &Spend) -> bool {
    !matches!(spend.binding, Some(Binding::Max | Binding::Fixed))
}

fn campaign(checked: &CheckedCampaign, spends: Vec<Spend>) -> CampaignPlan {
    let id = checked.id.clone();
    if !checked.daily {
        return CampaignPlan { id, total: spends[0], days: Vec::new() };
    }
    let greatest = |room: bool| {
        let days = spends.iter().filter(|s| has_room(s) || !room);
        days.map(|s| s.marginal).fold(0.0, f64::max)
    };
    let first = spends[0].binding;
    let total = Spend {
        spend: spends.iter().map(|s| s.spend).sum(),
        response: spends.iter().map(|s| s.response).sum(),
        marginal: greatest(spends.iter().any(has_room)),
        binding: first.filter(|_| spends.iter().all(|s| s.binding == first)),
    };
    CampaignPlan { id, total, days: spends }
}
