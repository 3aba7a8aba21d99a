//! Degenerate and wrong problems.

use aibuyer_domain::{
    ErrorKind,
    budget::{
        Binding, BudgetError, Campaign, Component, Curve, Effort, Plan, Problem, Schedule, SpendBounds, optimise,
    },
};

const LINEAR: Curve = Curve::Linear { beta: 2.0 };
const ROOT: Curve = Curve::Power { beta: 1.0, alpha: 0.5 };
const STEP: Curve = Curve::Hill { beta: 100.0, kappa: 50.0, slope: 4.0 };

fn campaign(id: &str, curve: Curve, min: f64, max: Option<f64>) -> Campaign {
    Campaign { id: id.into(), curve, schedule: Schedule::Whole(SpendBounds { min, max }) }
}

fn solve(budget: f64, campaigns: Vec<Campaign>) -> Plan {
    optimise(&Problem::new(budget, campaigns).unwrap(), Effort::default())
}

fn spends(plan: &Plan) -> Vec<f64> {
    plan.campaigns.iter().map(|c| c.total.spend).collect()
}

#[test]
fn errors_name_campaign_and_field_and_what_to_do() {
    let curve = |curve| vec![campaign("a", LINEAR, 0.0, None), campaign("b", curve, 0.0, None)];
    let bounds = |min, max| vec![campaign("b", LINEAR, min, max)];
    let days = |potential: Vec<f64>, min, max| {
        let schedule = Schedule::Daily { potential, bounds: SpendBounds { min, max } };
        vec![Campaign { id: "b".into(), curve: ROOT, schedule }]
    };
    let inner = Component { weight: 1.0, curve: Curve::Hill { beta: 1.0, kappa: 0.0, slope: 1.0 } };
    let heavy = Component { weight: -1.0, curve: LINEAR };
    let mixed = |components| curve(Curve::Mixture { components });
    let cases = [
        (curve(Curve::Linear { beta: f64::NAN }), "campaign \"b\": curve.beta: NaN must be finite and 0 or more"),
        (curve(Curve::Linear { beta: -1.0 }), "curve.beta: -1"),
        (curve(Curve::Log { beta: 1.0, kappa: 0.0 }), "curve.kappa: 0 must be finite and above 0"),
        (curve(Curve::Exp { beta: 1.0, kappa: f64::INFINITY }), "curve.kappa: inf"),
        (curve(Curve::Power { beta: 1.0, alpha: 0.0 }), "curve.alpha"),
        (curve(Curve::Hill { beta: 1.0, kappa: 1.0, slope: f64::NAN }), "curve.slope: NaN"),
        (curve(Curve::Linear { beta: 1e308 }), "overflows"),
        (mixed(vec![]), "curve.components: is empty"),
        (mixed(vec![inner]), "curve.components[0].curve.kappa: 0"),
        (mixed(vec![heavy]), "curve.components[0].weight: -1"),
        (bounds(-1.0, None), "min: -1"),
        (bounds(f64::NAN, None), "min: NaN"),
        (bounds(5.0, Some(4.0)), "max: 4 is below min 5"),
        (bounds(5.0, Some(f64::NAN)), "max: must be finite"),
        (bounds(5.0, Some(f64::INFINITY)), "leave it out"),
        (bounds(101.0, None), "add up to 101, the budget is 100: raise it or lower minima"),
        (days(vec![], 0.0, None), "daily_potential: is empty"),
        (days(vec![1.0, -1.0], 0.0, None), "daily_potential[1]: -1"),
        (days(vec![1.0], 2.0, Some(1.0)), "daily_max: 1 is below daily_min 2"),
        (days(vec![1.0; 11], 10.0, None), "add up to 110"),
        (vec![], "no campaigns"),
        (vec![campaign("a", LINEAR, 0.0, None); 2], "\"a\" stands twice"),
    ];
    for (campaigns, expect) in cases {
        let error = Problem::new(100.0, campaigns).unwrap_err();
        assert!(error.to_string().contains(expect), "{expect}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for budget in [f64::NAN, f64::INFINITY, -1.0] {
        let error = Problem::new(budget, bounds(0.0, None)).unwrap_err();
        assert!(matches!(error, BudgetError::Budget(_)), "{error}");
    }
}

#[test]
fn no_budget_is_a_plan_of_zeros() {
    let plan = solve(0.0, vec![campaign("a", LINEAR, 0.0, None), campaign("b", ROOT, 0.0, Some(3.0))]);
    assert_eq!(spends(&plan), [0.0, 0.0]);
    assert_eq!((plan.objective, plan.gap, plan.spent, plan.unspent), (0.0, 0.0, 0.0, 0.0));
    assert_eq!(plan.shadow_price, f64::INFINITY);
}

#[test]
fn minima_that_take_the_whole_budget_are_the_plan() {
    let plan = solve(0.1 + 0.2, vec![campaign("a", LINEAR, 0.1, None), campaign("b", ROOT, 0.2, Some(0.2))]);
    assert_eq!(spends(&plan), [0.1, 0.2]);
    assert_eq!(plan.shadow_price, 2.0);
    assert_eq!(plan.campaigns[0].total.binding, Some(Binding::Min));
    assert_eq!(plan.campaigns[1].total.binding, Some(Binding::Fixed));
}

#[test]
fn money_is_left_where_everyone_is_at_the_maximum_or_nothing_answers() {
    let mute = Curve::Hill { beta: 0.0, kappa: 1.0, slope: 2.0 };
    let plan = solve(100.0, vec![campaign("a", LINEAR, 0.0, Some(30.0)), campaign("b", mute, 5.0, None)]);
    assert_eq!(spends(&plan), [30.0, 5.0]);
    assert_eq!((plan.objective, plan.spent, plan.unspent, plan.shadow_price), (60.0, 35.0, 65.0, 0.0));
    assert_eq!(plan.campaigns[0].total.binding, Some(Binding::Max));
    assert_eq!(plan.campaigns[1].total.binding, Some(Binding::Min));
}

#[test]
fn equal_straight_lines_share_alike() {
    let all = ["a", "b", "c", "d"].map(|id| campaign(id, LINEAR, 0.0, Some(50.0)));
    let plan = solve(100.0, all.to_vec());
    assert!(spends(&plan).iter().all(|x| (x - 25.0).abs() < 1e-9), "{plan:?}");
    assert!((plan.objective - 200.0).abs() < 1e-9 && (plan.shadow_price - 2.0).abs() < 1e-9);
}

#[test]
fn equal_steps_take_turns_and_not_shares() {
    let all: Vec<Campaign> = (0..6).map(|i| campaign(&i.to_string(), STEP, 0.0, None)).collect();
    let plan = solve(200.0, all);
    let mut spends = spends(&plan);
    spends.sort_by(f64::total_cmp);
    // Shared alike each would have 33, below the step.
    assert!(plan.gap <= 1e-9, "{plan:?}");
    assert!(spends[..3].iter().all(|x| *x < 1e-9) && spends[3] > 60.0, "{spends:?}");
}

#[test]
fn a_lone_step_below_its_inflection_still_spends_everything() {
    let plan = solve(10.0, vec![campaign("a", STEP, 1.0, Some(500.0))]);
    assert!((plan.spent - 10.0).abs() < 1e-9 && plan.gap <= 1e-9, "{plan:?}");
}

#[test]
fn increasing_returns_go_to_the_better_one() {
    let convex = |beta| Curve::Power { beta, alpha: 1.5 };
    let all = vec![campaign("a", convex(1.0), 0.0, None), campaign("b", convex(1.1), 0.0, None)];
    let plan = solve(100.0, all);
    assert_eq!(spends(&plan), [0.0, 100.0]);
    assert!(plan.gap <= 1e-9);
}

#[test]
fn saturated_curves_and_extreme_scales_are_solved() {
    let exp = |kappa| Curve::Exp { beta: 1.0, kappa };
    let plan = solve(1e6, vec![campaign("a", exp(1.0), 0.0, None), campaign("b", exp(2.0), 0.0, None)]);
    assert!((plan.objective - 2.0).abs() < 1e-12 && plan.gap == 0.0, "{plan:?}");
    for scale in [1e-9, 1e9] {
        let hill = |kappa| Curve::Hill { beta: scale, kappa: kappa * scale, slope: 0.8 };
        let plan = solve(
            30.0 * scale,
            vec![campaign("a", hill(3.0), 0.0, None), campaign("b", hill(30.0), scale, Some(20.0 * scale))],
        );
        assert!((plan.spent / scale - 30.0).abs() < 1e-9 && plan.gap < 1e-12, "{plan:?}");
    }
}

#[test]
fn days_without_potential_get_the_least_and_the_others_what_they_can_use() {
    let schedule =
        Schedule::Daily { potential: vec![1.0, 0.0, 4.0], bounds: SpendBounds { min: 1.0, max: Some(60.0) } };
    let plan = solve(51.0, vec![Campaign { id: "a".into(), curve: ROOT, schedule }]);
    let days: Vec<f64> = plan.campaigns[0].days.iter().map(|d| d.spend).collect();
    // Roots share in proportion to their potential.
    assert!((days[0] - 10.0).abs() < 1e-9 && days[1] == 1.0 && (days[2] - 40.0).abs() < 1e-9, "{days:?}");
    assert_eq!(plan.campaigns[0].days[1].response, 0.0);
    assert_eq!(plan.campaigns[0].total.spend, plan.spent);
}

#[test]
fn a_search_that_is_cut_short_says_how_far_it_is() {
    let all: Vec<Campaign> = (0..30u32)
        .map(|i| {
            let kappa = 20.0 + f64::from(i * 7 % 13);
            campaign(&i.to_string(), Curve::Hill { beta: 50.0 + f64::from(i), kappa, slope: 3.0 }, 0.0, None)
        })
        .collect();
    let problem = Problem::new(300.0, all).unwrap();
    let hasty = optimise(&problem, Effort { evaluations: 0, ..Effort::default() });
    let full = optimise(&problem, Effort::default());
    assert!(hasty.gap > 0.0 && hasty.upper_bound >= full.objective && hasty.objective <= full.objective);
    assert!(full.gap <= 1e-9, "{}", full.gap);
}
