//! Reference instances: the public ones in the folder `shared` beside the repository (or where `AIBUYER_SHARED` points).

use std::{fs, path::PathBuf};

use aibuyer_domain::budget::{BudgetError, Campaign, Curve, Effort, Plan, Problem, Schedule, SpendBounds, optimise};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    name: String,
    #[allow(dead_code)] // for people
    about: String,
    budget: f64,
    campaigns: Vec<Raw>,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: String,
    curve: Curve,
    min: Option<f64>,
    max: Option<f64>,
    daily_potential: Option<Vec<f64>>,
    daily_min: Option<f64>,
    daily_max: Option<f64>,
}

#[derive(Deserialize)]
struct Expected {
    status: String,
    objective: Option<f64>,
    allocation: Option<Vec<f64>>,
    shadow_price: Option<f64>,
}

fn campaign(raw: Raw) -> Campaign {
    let schedule = match raw.daily_potential {
        None => Schedule::Whole(SpendBounds { min: raw.min.unwrap(), max: raw.max }),
        Some(potential) => {
            let bounds = SpendBounds { min: raw.daily_min.unwrap(), max: raw.daily_max };
            Schedule::Daily { potential, bounds }
        }
    };
    Campaign { id: raw.id, curve: raw.curve, schedule }
}

fn spends(plan: &Plan) -> Vec<f64> {
    let of = |c: &aibuyer_domain::budget::CampaignPlan| match &c.days[..] {
        [] => vec![c.total.spend],
        days => days.iter().map(|d| d.spend).collect(),
    };
    plan.campaigns.iter().flat_map(of).collect()
}

/// Compares with an instance's reference and says how near it came.
fn check(text: &str) -> String {
    let Instance { name, budget, campaigns, expected, .. } = serde_json::from_str(text).unwrap();
    let problem = Problem::new(budget, campaigns.into_iter().map(campaign).collect());
    if expected.status == "infeasible" {
        let error = problem.unwrap_err();
        assert!(matches!(error, BudgetError::Infeasible { .. }), "{name}: {error}");
        return format!("{name}: refused");
    }
    let plan = optimise(&problem.unwrap(), Effort::default());
    let objective = expected.objective.unwrap();
    let error = (plan.objective - objective) / objective;
    assert!(error.abs() <= 1e-7, "{name}: {} is not {objective}", plan.objective);
    assert!(plan.gap <= 1e-9, "{name}: gap {}", plan.gap);
    assert!(plan.spent <= budget * (1.0 + 1e-12), "{name}: spends {} of {budget}", plan.spent);
    assert!((plan.spent + plan.unspent - budget).abs() <= 1e-9 * budget, "{name}: unspent {}", plan.unspent);
    let apart = spends(&plan).iter().zip(expected.allocation.unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let price = expected.shadow_price.map_or(0.0, |p| (plan.shadow_price - p).abs() / p);
    assert!(price <= 1e-6, "{name}: shadow price {} {:?}", plan.shadow_price, expected.shadow_price);
    format!("{name}: objective off by {error:.1e}, spends by {apart:.1e}, price by {price:.1e}, gap {:.1e}", plan.gap)
}

#[test]
fn every_reference_instance_is_solved() {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("AIBUYER_SHARED").map_or(beside, PathBuf::from).join("budget");
    let Ok(files) = fs::read_dir(&folder) else {
        eprintln!("skipped: no reference instances in {}", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    for file in files {
        eprintln!("{}", check(&fs::read_to_string(file).unwrap()));
    }
}
