//! Budgets over gRPC.

use std::{fs, path::PathBuf};

use aibuyer_proto::serving::v1::{
    self as pb, SpendBinding, budget_campaign as campaign, budget_service_client::BudgetServiceClient,
    budget_warning::Kind as About, response_curve::Kind,
};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Server, ready, repository, start};

/// Budgets need no model: they are planned from the start.
async fn server(settings: &[&str]) -> Server {
    start(&repository().join("models"), settings).await
}

async fn plan(server: &Server, request: pb::OptimizeBudgetRequest) -> Result<pb::OptimizeBudgetResponse, Status> {
    let client = BudgetServiceClient::new(server.channel.clone());
    let mut client = client.max_encoding_message_size(64 << 20).max_decoding_message_size(64 << 20);
    client.optimize_budget(request).await.map(tonic::Response::into_inner)
}

fn curve(kind: Kind) -> pb::ResponseCurve {
    pb::ResponseCurve { kind: Some(kind) }
}

fn hill(beta: f64, kappa: f64, slope: f64) -> Kind {
    Kind::Hill(pb::HillCurve { beta, kappa, slope })
}

fn campaign(id: impl Into<String>, kind: Kind) -> pb::BudgetCampaign {
    pb::BudgetCampaign { id: id.into(), response: Some(campaign::Response::Curve(curve(kind))), schedule: None }
}

fn request(budget: f64, campaigns: Vec<pb::BudgetCampaign>) -> pb::OptimizeBudgetRequest {
    pb::OptimizeBudgetRequest { budget, campaigns, relative_gap: None }
}

fn whole(min: Option<f64>, max: Option<f64>) -> Option<campaign::Schedule> {
    Some(campaign::Schedule::Whole(pb::SpendBounds { min, max }))
}

fn daily(potentials: &[f64], min: Option<f64>, max: Option<f64>) -> Option<campaign::Schedule> {
    let bounds = Some(pb::SpendBounds { min, max });
    Some(campaign::Schedule::Daily(pb::DailySchedule { potentials: potentials.to_vec(), bounds }))
}

/// The reference instances: all public ones where the folder `shared` is, else those that travel with the tests.
fn instances() -> Vec<Value> {
    let beside = repository().join("../shared");
    let shared = std::env::var_os("AIBUYER_SHARED").map_or(beside, PathBuf::from).join("budget");
    let ours = repository().join("server/tests/data/budget");
    let folder = if shared.is_dir() { shared } else { ours };
    let files = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut files: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files.iter().map(|f| serde_json::from_str(&fs::read_to_string(f).unwrap()).unwrap()).collect()
}

fn kind_of(raw: &Value) -> Kind {
    let number = |name: &str| raw[name].as_f64().unwrap();
    let beta = || number("beta");
    match raw["type"].as_str().unwrap() {
        "hill" => hill(beta(), number("kappa"), number("slope")),
        "log" => Kind::Log(pb::LogCurve { beta: beta(), kappa: number("kappa") }),
        "power" => Kind::Power(pb::PowerCurve { beta: beta(), alpha: number("alpha") }),
        "exp" => Kind::Exponential(pb::ExponentialCurve { beta: beta(), kappa: number("kappa") }),
        "linear" => Kind::Linear(pb::LinearCurve { beta: beta() }),
        "mixture" => {
            let draw = |raw: &Value| pb::CurveDraw {
                weight: raw["weight"].as_f64().unwrap(),
                curve: Some(curve(kind_of(&raw["curve"]))),
            };
            Kind::Mixture(pb::CurveMixture { draws: raw["components"].as_array().unwrap().iter().map(draw).collect() })
        }
        other => panic!("{other}"),
    }
}

fn numbers(raw: &Value) -> Vec<f64> {
    raw.as_array().map_or(vec![], |all| all.iter().map(|v| v.as_f64().unwrap()).collect())
}

fn campaign_of(raw: &Value) -> pb::BudgetCampaign {
    let schedule = match &raw["daily_potential"] {
        Value::Null => whole(raw["min"].as_f64(), raw["max"].as_f64()),
        potentials => daily(&numbers(potentials), raw["daily_min"].as_f64(), raw["daily_max"].as_f64()),
    };
    pb::BudgetCampaign { schedule, ..campaign(raw["id"].as_str().unwrap(), kind_of(&raw["curve"])) }
}

#[tokio::test]
async fn reference_instances_are_solved_and_the_infeasible_one_refused() {
    let server = server(&["limits.default_deadline=60s"]).await;
    let instances = instances();
    assert!(instances.len() >= 6, "{}", instances.len());
    for instance in instances {
        let (name, expected) = (&instance["name"], &instance["expected"]);
        let budget = instance["budget"].as_f64().unwrap();
        let campaigns: Vec<_> = instance["campaigns"].as_array().unwrap().iter().map(campaign_of).collect();
        let answer = plan(&server, request(budget, campaigns.clone())).await;
        if expected["status"] == "infeasible" {
            let error = answer.unwrap_err();
            let found = violations(&error);
            assert_eq!((error.code(), found[0].0.as_str()), (Code::InvalidArgument, "budget"), "{name}");
            assert!(found[0].1.contains(&budget.to_string()) && found[0].1.contains("raise it"), "{found:?}");
            continue;
        }
        let plan = answer.unwrap();
        let objective = expected["objective"].as_f64().unwrap();
        assert!((plan.response / objective - 1.0).abs() <= 1e-7, "{name}: {} is not {objective}", plan.response);
        assert!(plan.relative_gap <= 1e-9 && plan.upper_bound >= plan.response, "{name}: {}", plan.relative_gap);
        assert!((plan.spent + plan.unspent - budget).abs() <= 1e-7 * budget, "{name}: {}", plan.spent);
        if let Some(price) = expected["shadow_price"].as_f64() {
            assert!((plan.shadow_price / price - 1.0).abs() <= 1e-6, "{name}: {}", plan.shadow_price);
        }
        assert!(plan.campaigns.iter().map(|c| &c.id).eq(campaigns.iter().map(|c| &c.id)), "{name}");
        let items = plan.campaigns.iter().flat_map(|c| match &c.days[..] {
            [] => vec![c.total.unwrap()],
            days => days.to_vec(),
        });
        let (spends, responses): (Vec<f64>, Vec<f64>) = items.map(|i| (i.spend, i.response)).unzip();
        assert_eq!(spends.len(), numbers(&expected["allocation"]).len(), "{name}");
        assert!((responses.iter().sum::<f64>() / plan.response - 1.0).abs() < 1e-9, "{name}");
        assert!((spends.iter().sum::<f64>() / plan.spent - 1.0).abs() < 1e-9, "{name}");
    }
}

fn violations(status: &Status) -> Vec<(String, String)> {
    let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("no violations in {status:?}"));
    bad.field_violations.into_iter().map(|v| (v.field, v.description)).collect()
}

#[tokio::test]
async fn a_wrong_request_names_the_field_and_the_cure() {
    let server = server(&[]).await;
    let good = || campaign("good", Kind::Linear(pb::LinearCurve { beta: 1.0 }));
    let second = |wrong: pb::BudgetCampaign| request(100.0, vec![good(), wrong]);
    let kind = |kind| second(campaign("b", kind));
    let within = |schedule| second(pb::BudgetCampaign { id: "b".into(), schedule, ..good() });
    let draws = |draws| kind(Kind::Mixture(pb::CurveMixture { draws }));
    let draw = |weight, curve| {
        vec![pb::CurveDraw { weight: 1.0, curve: Some(curve_of_one()) }, pb::CurveDraw { weight, curve }]
    };
    let history = |spends: &[f64], responses: &[f64], family| {
        let (spends, responses) = (spends.to_vec(), responses.to_vec());
        let rows = pb::SpendHistory { spends, responses, family };
        second(pb::BudgetCampaign {
            response: Some(campaign::Response::History(rows)),
            ..campaign("b", hill(1.0, 1.0, 1.0))
        })
    };
    let many = vec![1.0; 200_001];
    let cases = [
        (request(f64::NAN, vec![good()]), "budget", "NaN must be a finite amount"),
        (request(-1.0, vec![good()]), "budget", "-1 must be"),
        (request(1.0, vec![]), "campaigns", "name at least one"),
        (second(good()), "campaigns[1].id", "stands twice"),
        (second(campaign("", hill(1.0, 1.0, 1.0))), "campaigns[1].id", "is empty"),
        (
            second(pb::BudgetCampaign { response: None, ..campaign("b", hill(1.0, 1.0, 1.0)) }),
            "campaigns[1].response",
            "set curve, or history",
        ),
        (
            second(pb::BudgetCampaign {
                response: Some(campaign::Response::Curve(pb::ResponseCurve { kind: None })),
                ..campaign("b", hill(1.0, 1.0, 1.0))
            }),
            "campaigns[1].curve.kind",
            "set one of hill, log",
        ),
        (kind(hill(1.0, 0.0, 1.0)), "campaigns[1].curve.hill.kappa", "0 must be finite and above 0"),
        (kind(hill(1.0, 1.0, f64::NAN)), "campaigns[1].curve.hill.slope", "NaN"),
        (kind(Kind::Log(pb::LogCurve { beta: -1.0, kappa: 1.0 })), "campaigns[1].curve.log.beta", "0 or more"),
        (kind(Kind::Power(pb::PowerCurve { beta: 1.0, alpha: 0.0 })), "campaigns[1].curve.power.alpha", "above 0"),
        (
            kind(Kind::Exponential(pb::ExponentialCurve { beta: 1.0, kappa: f64::INFINITY })),
            "campaigns[1].curve.exponential.kappa",
            "inf",
        ),
        (kind(Kind::Linear(pb::LinearCurve { beta: f64::NAN })), "campaigns[1].curve.linear.beta", "NaN"),
        (kind(Kind::Linear(pb::LinearCurve { beta: 1e307 })), "campaigns[1].curve", "overflows"),
        (draws(vec![]), "campaigns[1].curve.mixture.draws", "at least one"),
        (draws(draw(-1.0, Some(curve_of_one()))), "campaigns[1].curve.mixture.draws[1].weight", "-1"),
        (draws(draw(1.0, None)), "campaigns[1].curve.mixture.draws[1].curve", "is required"),
        (
            draws(draw(1.0, Some(curve(hill(1.0, -1.0, 1.0))))),
            "campaigns[1].curve.mixture.draws[1].curve.hill.kappa",
            "-1",
        ),
        (within(whole(Some(-1.0), None)), "campaigns[1].whole.min", "-1"),
        (within(whole(Some(5.0), Some(4.0))), "campaigns[1].whole.max", "4 is below min 5"),
        (within(whole(Some(101.0), None)), "budget", "add up to 101, the budget is 100"),
        (within(daily(&[], None, None)), "campaigns[1].daily.potentials", "at least one day"),
        (within(daily(&[1.0, -1.0], None, None)), "campaigns[1].daily.potentials[1]", "-1"),
        (within(daily(&[1.0], Some(2.0), Some(1.0))), "campaigns[1].daily.bounds.max", "1 is below min 2"),
        (within(daily(&many, None, None)), "campaigns", "more than the 200000"),
        (history(&many[..50_001], &many[..50_001], 0), "campaigns", "history rows are more than the 50000"),
        (history(&[1.0, 2.0], &[1.0], 0), "campaigns[1].history.responses", "has 1 rows, spends has 2"),
        (history(&[1.0, -2.0, 3.0], &[1.0; 3], 0), "campaigns[1].history.spends[1]", "-2 must be"),
        (history(&[1.0; 3], &[1.0, f64::NAN, 2.0], 0), "campaigns[1].history.responses[1]", "NaN must be"),
        (history(&[1.0, 2.0], &[1.0, 2.0], 0), "campaigns[1].history.spends", "cannot tell the curve's 3 parameters"),
        (history(&[1.0, 2.0], &[0.0; 2], 5), "campaigns[1].history.responses", "no history row"),
        (history(&[1.0, 2.0], &[1.0; 2], 9), "campaigns[1].history.family", "9 is no family"),
        (pb::OptimizeBudgetRequest { relative_gap: Some(1.0), ..second(good()) }, "relative_gap", "below 1"),
        (pb::OptimizeBudgetRequest { relative_gap: Some(f64::NAN), ..second(good()) }, "relative_gap", "NaN"),
    ];
    for (request, field, expect) in cases {
        let status = plan(&server, request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        let found = violations(&status);
        assert!(found.iter().any(|(f, d)| f == field && d.contains(expect)), "{field}, {expect}: {found:?}");
    }
    let all = request(1.0, ["a", "b", "c"].map(|id| campaign(id, hill(1.0, 0.0, 1.0))).to_vec());
    let found = violations(&plan(&server, all).await.unwrap_err());
    assert!(found.len() == 3 && found[2].0 == "campaigns[2].curve.hill.kappa", "all at once: {found:?}");
}

fn curve_of_one() -> pb::ResponseCurve {
    curve(Kind::Linear(pb::LinearCurve { beta: 1.0 }))
}

#[tokio::test]
async fn a_history_becomes_a_curve_with_what_it_cannot_tell() {
    let server = server(&[]).await;
    let truth = |x: f64| 500.0 * x / (80.0 + x);
    let spends: Vec<f64> = (1..=60).map(|i| f64::from(i * 7 % 61) * 5.0).collect();
    let mut responses: Vec<f64> = spends.iter().map(|x| truth(*x)).collect();
    responses[10] = 5_000.0;
    let rows = pb::SpendHistory { spends, responses, family: 0 };
    let told = pb::SpendHistory { spends: vec![50.0; 6], responses: vec![9.0, 11.0, 10.0, 10.0, 9.5, 10.5], family: 2 };
    let of = |id: &str, rows| pb::BudgetCampaign {
        id: id.to_owned(),
        response: Some(campaign::Response::History(rows)),
        schedule: whole(None, Some(1000.0)),
    };
    let plan = plan(&server, request(1500.0, vec![of("a", rows), of("b", told)])).await.unwrap();
    let fitted = plan.campaigns[0].fitted.clone().unwrap();
    let Some(Kind::Hill(got)) = fitted.curve.unwrap().kind else { panic!("a Hill curve is the default") };
    assert!((got.beta / 500.0 - 1.0).abs() < 1e-3 && (got.kappa / 80.0 - 1.0).abs() < 1e-3, "{got:?}");
    assert_eq!(fitted.outliers, [10]);
    let warned = |id: &str| {
        let mine = plan.warnings.iter().filter(|w| w.campaign_id == id);
        mine.map(pb::BudgetWarning::kind).collect::<Vec<_>>()
    };
    assert!(warned("a").contains(&About::BeyondHistory), "{:?}", plan.warnings);
    assert!(warned("b").contains(&About::SpendDoesNotVary), "{:?}", plan.warnings);
}

#[tokio::test]
async fn what_is_left_and_which_bounds_bind_is_told() {
    let server = server(&[]).await;
    let linear = |id: &str, max| pb::BudgetCampaign {
        schedule: whole(None, Some(max)),
        ..campaign(id, Kind::Linear(pb::LinearCurve { beta: 2.0 }))
    };
    let plan = plan(&server, request(100.0, vec![linear("a", 30.0), linear("b", 0.0)])).await.unwrap();
    assert_eq!((plan.response, plan.spent, plan.unspent, plan.shadow_price), (60.0, 30.0, 70.0, 0.0));
    assert_eq!(plan.warnings[0].kind(), About::Unspent);
    let bindings: Vec<_> = plan.campaigns.iter().map(|c| c.total.unwrap().binding()).collect();
    assert_eq!(bindings, [SpendBinding::Max, SpendBinding::Fixed]);
}

/// S-shaped campaigns, so many that no gap is proven soon.
fn endless() -> pb::OptimizeBudgetRequest {
    let of = |i: u32| {
        let (beta, kappa) = (50.0 + f64::from(i * 37 % 101) / 7.0, 20.0 + f64::from(i * 53 % 97) / 5.0);
        campaign(i.to_string(), hill(beta, kappa, 3.0 + f64::from(i % 5)))
    };
    pb::OptimizeBudgetRequest { relative_gap: Some(0.0), ..request(9_999.5, (0..400).map(of).collect()) }
}

#[tokio::test]
async fn a_search_ends_in_time_with_the_best_plan_so_far() {
    let server = server(&["limits.default_deadline=3s"]).await;
    let plan = plan(&server, endless()).await.unwrap();
    assert!(plan.relative_gap < 0.05 && plan.spent <= 9_999.5 * (1.0 + 1e-9), "{}", plan.relative_gap);
    assert_eq!(plan.relative_gap > 1e-9, plan.warnings.iter().any(|w| w.kind() == About::GapNotReached));
}

#[tokio::test]
async fn what_cannot_be_planned_in_time_or_has_no_room_is_refused() {
    // The caller's own timer would be first with a deadline of its own.
    let settings = ["executor.threads=1", "executor.queue_rows=500", "limits.default_deadline=1ms"];
    let server = server(&settings).await;
    let status = plan(&server, endless()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let server = start(&repository().join("models"), &settings[..2]).await;
    let more = request(1.0, (0..501).map(|i| campaign(i.to_string(), hill(1.0, 1.0, 1.0))).collect());
    let status = plan(&server, more).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("queue of 500"), "{status:?}");
}

#[tokio::test]
async fn ten_thousand_campaigns_are_answered() {
    let server = ready(&repository().join("models"), &["limits.default_deadline=60s"]).await;
    let of = |i: u32| campaign(format!("campaign {i}"), hill(1.0 + f64::from(i % 91), 5.0 + f64::from(i % 77), 0.9));
    let plan = plan(&server, request(1e6, (0..10_000).map(of).collect())).await.unwrap();
    assert_eq!(plan.campaigns.len(), 10_000);
    assert!(plan.relative_gap <= 1e-9 && (plan.spent / 1e6 - 1.0).abs() < 1e-9, "{} {}", plan.relative_gap, plan.spent);
    let price = plan.shadow_price;
    assert!(plan.campaigns.iter().all(|c| (c.total.unwrap().marginal_response / price - 1.0).abs() < 1e-6));
}
