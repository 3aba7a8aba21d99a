//! From a plan of the domain to a reply.

use aibuyer_domain::budget::{Binding, Campaign, CampaignPlan, Curve, Plan, Schedule, Spend, Warning};
use aibuyer_proto::serving::v1::{self as pb, budget_warning::Kind as About, response_curve::Kind};

use super::problem::Fitted;

/// Bounds and plans of concave problems differ by rounding.
const ROUNDING: f64 = 1e-9;

/// The reply; `campaigns` and `fits` are in the plan's order.
pub(super) fn reply(
    plan: Plan,
    fits: Vec<Option<Fitted>>,
    campaigns: &[Campaign],
    gap: f64,
) -> pb::OptimizeBudgetResponse {
    let mut warnings = Vec::new();
    if plan.gap > gap.max(ROUNDING) {
        let description = format!(
            "the search ended at a relative gap of {:.1e}, above the {gap:.1e} that was asked for: allow more time or \
             a greater gap",
            plan.gap
        );
        warnings.push(warning(About::GapNotReached, "", description));
    }
    if plan.unspent > 0.0 {
        let description = format!(
            "{} of the budget is left: every campaign is at its maximum, or more spend brings nothing",
            plan.unspent
        );
        warnings.push(warning(About::Unspent, "", description));
    }
    let planned = plan.campaigns.into_iter().zip(fits).zip(campaigns);
    let campaigns = planned.map(|((of, fitted), campaign)| {
        if let Some(fitted) = &fitted {
            warnings.extend(fitted.fit.warnings.iter().map(|w| about_fit(w, &of.id)));
            warnings.extend(beyond(fitted, &of, campaign));
        }
        pb::CampaignPlan {
            id: of.id,
            total: Some(spend(&of.total)),
            days: of.days.iter().map(spend).collect(),
            fitted: fitted.map(told),
        }
    });
    let campaigns = campaigns.collect();
    pb::OptimizeBudgetResponse {
        campaigns,
        response: plan.objective,
        upper_bound: plan.upper_bound,
        relative_gap: plan.gap,
        spent: plan.spent,
        unspent: plan.unspent,
        shadow_price: plan.shadow_price,
        warnings,
    }
}

fn spend(of: &Spend) -> pb::PlannedSpend {
    let binding = match of.binding {
        None => pb::SpendBinding::Unspecified,
        Some(Binding::Min) => pb::SpendBinding::Min,
        Some(Binding::Max) => pb::SpendBinding::Max,
        Some(Binding::Fixed) => pb::SpendBinding::Fixed,
    };
    pb::PlannedSpend { spend: of.spend, response: of.response, marginal_response: of.marginal, binding: binding.into() }
}

fn told(Fitted { fit, .. }: Fitted) -> pb::FittedCurve {
    pb::FittedCurve {
        curve: Some(curve(&fit.curve)),
        r_squared: fit.r_squared,
        residual_scale: fit.residual_scale,
        outliers: fit.outliers.iter().filter_map(|row| u32::try_from(*row).ok()).collect(),
    }
}

fn curve(of: &Curve) -> pb::ResponseCurve {
    let kind = match *of {
        Curve::Hill { beta, kappa, slope } => Kind::Hill(pb::HillCurve { beta, kappa, slope }),
        Curve::Log { beta, kappa } => Kind::Log(pb::LogCurve { beta, kappa }),
        Curve::Power { beta, alpha } => Kind::Power(pb::PowerCurve { beta, alpha }),
        Curve::Exp { beta, kappa } => Kind::Exponential(pb::ExponentialCurve { beta, kappa }),
        Curve::Linear { beta } => Kind::Linear(pb::LinearCurve { beta }),
        Curve::Mixture { ref components } => {
            let draw = |c: &aibuyer_domain::budget::Component| pb::CurveDraw {
                weight: c.weight,
                curve: Some(curve(&c.curve)),
            };
            Kind::Mixture(pb::CurveMixture { draws: components.iter().map(draw).collect() })
        }
    };
    pb::ResponseCurve { kind: Some(kind) }
}

fn warning(kind: About, campaign: &str, description: String) -> pb::BudgetWarning {
    pb::BudgetWarning { kind: kind.into(), campaign_id: campaign.to_owned(), description }
}

fn about_fit(of: &Warning, campaign: &str) -> pb::BudgetWarning {
    let (kind, description) = match of {
        Warning::SpendDoesNotVary => (
            About::SpendDoesNotVary,
            "spends of the history hardly differ, so that any curve through the mean response fits: vary the spend"
                .to_owned(),
        ),
        Warning::SaturationNotSeen => (
            About::SaturationNotSeen,
            "no spend of the history came near saturation: beyond the greatest one the curve is a guess".to_owned(),
        ),
        Warning::FewRows => {
            (About::FewRows, "the history has fewer than three rows for each parameter of the curve".to_owned())
        }
        Warning::PoorFit => {
            (About::PoorFit, "the fitted curve explains less than half of the responses' variance".to_owned())
        }
        Warning::ParameterUnclear { parameter, relative_error } => (
            About::ParameterUnclear,
            format!("the history leaves {parameter} open: its standard error is {:.0} % of it", 100.0 * relative_error),
        ),
    };
    warning(kind, campaign, description)
}

/// Whether a campaign is to spend more than it ever did.
fn beyond(fitted: &Fitted, of: &CampaignPlan, campaign: &Campaign) -> Option<pb::BudgetWarning> {
    let most = match &campaign.schedule {
        Schedule::Whole(_) => of.total.spend,
        // On the scale of a day for which the curve holds as it stands.
        Schedule::Daily { potential, .. } => {
            let days = of.days.iter().zip(potential).filter(|(_, p)| **p > 0.0);
            days.map(|(day, p)| day.spend / p).fold(0.0, f64::max)
        }
    };
    (most > fitted.greatest).then(|| {
        let description = format!(
            "the plan spends {most} where the history ends at {}: the curve is a guess there, a maximum would bound it",
            fitted.greatest
        );
        warning(About::BeyondHistory, &of.id, description)
    })
}
