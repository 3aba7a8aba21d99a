//! The optimiser against a slow search and against the conditions that any optimum meets.

use aibuyer_domain::budget::{
    Binding, Campaign, Component, Curve, Effort, Plan, Problem, Schedule, SpendBounds, optimise,
};
use proptest::{collection::vec, prelude::*};

fn simple(steepest: f64) -> impl Strategy<Value = Curve> {
    let (beta, kappa) = (1.0f64..100.0, 1.0f64..80.0);
    prop_oneof![
        (beta.clone(), kappa.clone(), 0.3..steepest).prop_map(|(beta, kappa, slope)| Curve::Hill {
            beta,
            kappa,
            slope
        }),
        (beta.clone(), kappa.clone()).prop_map(|(beta, kappa)| Curve::Log { beta, kappa }),
        (beta.clone(), kappa).prop_map(|(beta, kappa)| Curve::Exp { beta, kappa }),
        (beta.clone(), 0.2f64..1.0).prop_map(|(beta, alpha)| Curve::Power { beta: beta / 10.0, alpha }),
        beta.prop_map(|beta| Curve::Linear { beta: beta / 50.0 }),
    ]
}

fn curve(steepest: f64) -> impl Strategy<Value = Curve> {
    let draws = vec((0.0f64..1.0, simple(steepest)), 1..4);
    let mixture = draws.prop_map(|draws| Curve::Mixture {
        components: draws.into_iter().map(|(weight, curve)| Component { weight, curve }).collect(),
    });
    prop_oneof![3 => simple(steepest), 1 => mixture]
}

fn campaigns(steepest: f64, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Campaign>> {
    let bounds = (prop_oneof![Just(0.0), 0.0f64..10.0], prop_oneof![Just(None), (0.0f64..150.0).prop_map(Some)]);
    vec((curve(steepest), bounds), count).prop_map(|all| {
        let campaign = |(i, (curve, (min, room)))| {
            let max = Option::<f64>::map(room, |room| min + room);
            Campaign { id: format!("c{i}"), curve, schedule: Schedule::Whole(SpendBounds { min, max }) }
        };
        all.into_iter().enumerate().map(campaign).collect()
    })
}

fn bounds(c: &Campaign) -> (f64, f64) {
    let Schedule::Whole(SpendBounds { min, max }) = c.schedule else { panic!("no days here") };
    (min, max.unwrap_or(f64::INFINITY))
}

fn value(curve: &Curve, x: f64) -> f64 {
    match curve {
        Curve::Hill { beta, kappa, slope } => beta * x.powf(*slope) / (kappa.powf(*slope) + x.powf(*slope)),
        Curve::Log { beta, kappa } => beta * (1.0 + x / kappa).ln(),
        Curve::Power { beta, alpha } => beta * x.powf(*alpha),
        Curve::Exp { beta, kappa } => beta * (1.0 - (-x / kappa).exp()),
        Curve::Linear { beta } => beta * x,
        Curve::Mixture { components } => components.iter().map(|c| c.weight * value(&c.curve, x)).sum(),
    }
}

/// The best plan on a grid of the budget, by dynamic programming over the campaigns.
fn on_a_grid(budget: f64, campaigns: &[Campaign], steps: usize) -> f64 {
    let unit = budget / steps as f64;
    let mut best = vec![0.0; steps + 1];
    for campaign in campaigns {
        let (min, max) = bounds(campaign);
        // The least spend is not on the grid: it is charged before.
        let responses: Vec<f64> =
            (0..=steps).map(|k| value(&campaign.curve, (min + k as f64 * unit).min(max))).collect();
        best = (0..=steps)
            .map(|s| (0..=s).map(|k| best[s - k] + responses[k]).fold(f64::NEG_INFINITY, f64::max))
            .collect();
    }
    best[steps]
}

fn check_feasible(plan: &Plan, budget: f64, campaigns: &[Campaign]) -> Result<(), TestCaseError> {
    let mut total = 0.0;
    for (got, campaign) in plan.campaigns.iter().zip(campaigns) {
        let (min, max) = bounds(campaign);
        let x = got.total.spend;
        prop_assert!(min <= x && x <= max, "{x} not in [{min}, {max}]");
        let response = value(&campaign.curve, x);
        prop_assert!((got.total.response - response).abs() <= 1e-9 * (1.0 + response));
        total += response;
    }
    prop_assert!(plan.spent <= budget * (1.0 + 1e-12));
    prop_assert!((plan.objective - total).abs() <= 1e-9 * (1.0 + total));
    prop_assert!(plan.upper_bound >= plan.objective && plan.gap >= 0.0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_on_a_grid_is_better(all in campaigns(5.0, 1..6), room in 0.0f64..300.0) {
        let least: f64 = all.iter().map(|c| bounds(c).0).sum();
        let budget = least + room;
        let plan = optimise(&Problem::new(budget, all.clone()).unwrap(), Effort::default());
        check_feasible(&plan, budget, &all)?;
        let grid = on_a_grid(room, &all, 150);
        prop_assert!(plan.objective >= grid * (1.0 - 1e-9), "{} is below the grid's {grid}", plan.objective);
        prop_assert!(plan.gap <= 1e-9, "gap {}", plan.gap);
    }

    /// Karush-Kuhn-Tucker: whoever can have more has a marginal response of at most the shadow price, whoever can have
    /// less one of at least that, and money is left only where nobody can have more.
    #[test]
    fn concave_plans_meet_the_conditions_of_an_optimum(all in campaigns(1.0, 1..40), room in 0.01f64..2000.0) {
        let least: f64 = all.iter().map(|c| bounds(c).0).sum();
        let budget = least + room;
        let plan = optimise(&Problem::new(budget, all.clone()).unwrap(), Effort::default());
        check_feasible(&plan, budget, &all)?;
        let price = plan.shadow_price;
        for got in &plan.campaigns {
            let at = |b: &[Binding]| got.total.binding.is_some_and(|x| b.contains(&x));
            let marginal = got.total.marginal;
            if plan.unspent > 0.0 {
                prop_assert!(at(&[Binding::Max, Binding::Fixed]) || marginal == 0.0, "{got:?}");
            }
            if !at(&[Binding::Max, Binding::Fixed]) && plan.unspent == 0.0 && marginal.is_finite() {
                prop_assert!(marginal <= price * (1.0 + 1e-6), "{marginal} > {price}");
            }
            // A spend of next to nothing is as inexact as the sum of all spends, and its slope may be steep.
            if !at(&[Binding::Min, Binding::Fixed]) && got.total.spend > 1e-6 * budget {
                prop_assert!(marginal >= price * (1.0 - 1e-6), "{marginal} < {price}");
            }
        }
        prop_assert!(plan.gap <= 1e-11, "gap {}", plan.gap);
    }

    #[test]
    fn more_budget_never_brings_less(all in campaigns(4.0, 1..8), room in 0.0f64..200.0, more in 0.0f64..100.0) {
        let least: f64 = all.iter().map(|c| bounds(c).0).sum();
        let objective = |budget| optimise(&Problem::new(budget, all.clone()).unwrap(), Effort::default()).objective;
        let (some, greater) = (objective(least + room), objective(least + room + more));
        prop_assert!(greater >= some * (1.0 - 1e-8), "{greater} < {some}");
    }
}
