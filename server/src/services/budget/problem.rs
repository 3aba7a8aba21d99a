//! From a request to a problem of the domain. What is wrong is named by its path in the request.

use aibuyer_domain::{
    budget::{
        BudgetError, Campaign, Component, Curve, Effort, Fit, FitError, Model, Observation, Schedule, SpendBounds, fit,
    },
    ctr::{EncodeError, Violation},
};
use aibuyer_loader::executor::ExecutorError;
use aibuyer_proto::serving::v1::{self as pb, budget_campaign as asked, response_curve::Kind};
use tonic::Status;

use crate::status;

/// Campaigns × days × draws of one request: about a second for concave curves, and 60 MB.
const MAX_SPENDS: usize = 200_000;

/// History rows of one request: each is looked at about a thousand times.
const MAX_HISTORY: usize = 50_000;

/// A fitted curve, and the greatest spend that it has seen.
pub(super) struct Fitted {
    pub(super) fit: Fit,
    pub(super) greatest: f64,
}

/// A request's campaigns, and the fit of each that brought its history.
pub(super) struct Read {
    pub(super) campaigns: Vec<Campaign>,
    pub(super) fits: Vec<Option<Fitted>>,
}

fn wrong(field: impl Into<String>, reason: impl Into<String>) -> Violation {
    Violation { field: field.into(), reason: reason.into() }
}

/// What the work on a request grows with.
///
/// # Errors
/// INVALID_ARGUMENT where that is too much for one request.
pub(super) fn rows(request: &pb::OptimizeBudgetRequest) -> Result<usize, Status> {
    let (mut spends, mut history) = (0, 0);
    for campaign in &request.campaigns {
        let days = match &campaign.schedule {
            Some(asked::Schedule::Daily(daily)) => daily.potentials.len().max(1),
            _ => 1,
        };
        let draws = match &campaign.response {
            Some(asked::Response::Curve(curve)) => draws(curve),
            Some(asked::Response::History(rows)) => {
                history += rows.spends.len();
                1
            }
            None => 1,
        };
        spends += days * draws;
    }
    for (count, most, what) in
        [(spends, MAX_SPENDS, "campaigns × days × draws"), (history, MAX_HISTORY, "history rows")]
    {
        if count > most {
            let reason =
                format!("{count} {what} are more than the {most} of one request: send fewer, or group campaigns");
            return Err(status::invalid_field("campaigns", reason));
        }
    }
    Ok(spends + history)
}

fn draws(curve: &pb::ResponseCurve) -> usize {
    let Some(Kind::Mixture(mixture)) = &curve.kind else { return 1 };
    mixture.draws.iter().map(|draw| draw.curve.as_ref().map_or(1, draws)).sum::<usize>().max(1)
}

/// The gap at which the search may end.
pub(super) fn gap(asked: Option<f64>) -> Result<f64, Status> {
    match asked {
        None => Ok(Effort::default().gap),
        Some(gap) if (0.0..1.0).contains(&gap) => Ok(gap),
        Some(gap) => {
            Err(status::invalid_field("relative_gap", format!("{gap} must be 0 or more and below 1, such as 1e-4")))
        }
    }
}

/// Reads and fits the campaigns.
///
/// # Errors
/// INVALID_ARGUMENT with what is missing or cannot be fitted, of all campaigns; DEADLINE_EXCEEDED when `go_on` says no.
pub(super) fn read(campaigns: &[pb::BudgetCampaign], go_on: &dyn Fn() -> bool) -> Result<Read, Status> {
    let mut read = Read { campaigns: Vec::with_capacity(campaigns.len()), fits: Vec::with_capacity(campaigns.len()) };
    let mut violations = Vec::new();
    for (i, campaign) in campaigns.iter().enumerate() {
        // Fits take long, and nobody has use for a part of them.
        if !go_on() {
            return Err(status::from_executor(&ExecutorError::DeadlineExceeded));
        }
        let path = format!("campaigns[{i}]");
        if campaign.id.is_empty() {
            violations.push(wrong(format!("{path}.id"), "is empty: name the campaign, as the reply will"));
        }
        match response(campaign.response.as_ref(), &path) {
            Ok((curve, fit)) => {
                let schedule = schedule(campaign.schedule.as_ref());
                read.campaigns.push(Campaign { id: campaign.id.clone(), curve, schedule });
                read.fits.push(fit);
            }
            Err(violation) => violations.push(violation),
        }
    }
    if violations.is_empty() { Ok(read) } else { Err(status::invalid(&EncodeError(violations))) }
}

fn schedule(asked: Option<&asked::Schedule>) -> Schedule {
    let bounds = |asked: Option<&pb::SpendBounds>| {
        let asked = asked.copied().unwrap_or_default();
        SpendBounds { min: asked.min.unwrap_or(0.0), max: asked.max }
    };
    match asked {
        None => Schedule::Whole(bounds(None)),
        Some(asked::Schedule::Whole(asked)) => Schedule::Whole(bounds(Some(asked))),
        Some(asked::Schedule::Daily(daily)) => {
            Schedule::Daily { potential: daily.potentials.clone(), bounds: bounds(daily.bounds.as_ref()) }
        }
    }
}

fn response(asked: Option<&asked::Response>, path: &str) -> Result<(Curve, Option<Fitted>), Violation> {
    match asked {
        None => Err(wrong(format!("{path}.response"), "is required: set curve, or history to fit one from")),
        Some(asked::Response::Curve(asked)) => Ok((curve(asked, &format!("{path}.curve"))?, None)),
        Some(asked::Response::History(asked)) => {
            let fitted = fitted(asked, &format!("{path}.history"))?;
            Ok((fitted.fit.curve.clone(), Some(fitted)))
        }
    }
}

fn curve(asked: &pb::ResponseCurve, path: &str) -> Result<Curve, Violation> {
    Ok(match &asked.kind {
        None => {
            let reason = "is required: set one of hill, log, power, exponential, linear, mixture";
            return Err(wrong(format!("{path}.kind"), reason));
        }
        Some(Kind::Hill(c)) => Curve::Hill { beta: c.beta, kappa: c.kappa, slope: c.slope },
        Some(Kind::Log(c)) => Curve::Log { beta: c.beta, kappa: c.kappa },
        Some(Kind::Power(c)) => Curve::Power { beta: c.beta, alpha: c.alpha },
        Some(Kind::Exponential(c)) => Curve::Exp { beta: c.beta, kappa: c.kappa },
        Some(Kind::Linear(c)) => Curve::Linear { beta: c.beta },
        Some(Kind::Mixture(mixture)) => {
            let draw = |(i, draw): (usize, &pb::CurveDraw)| {
                let path = format!("{path}.mixture.draws[{i}].curve");
                let asked = draw.curve.as_ref().ok_or_else(|| wrong(&path, "is required: the curve of this draw"))?;
                Ok(Component { weight: draw.weight, curve: curve(asked, &path)? })
            };
            Curve::Mixture { components: mixture.draws.iter().enumerate().map(draw).collect::<Result<_, _>>()? }
        }
    })
}

fn fitted(asked: &pb::SpendHistory, path: &str) -> Result<Fitted, Violation> {
    let pb::SpendHistory { spends, responses, family } = asked;
    if spends.len() != responses.len() {
        let reason = format!("has {} rows, spends has {}: give a pair for each period", responses.len(), spends.len());
        return Err(wrong(format!("{path}.responses"), reason));
    }
    let model = match pb::CurveFamily::try_from(*family) {
        Ok(pb::CurveFamily::Unspecified | pb::CurveFamily::Hill) => Model::Hill,
        Ok(pb::CurveFamily::Log) => Model::Log,
        Ok(pb::CurveFamily::Power) => Model::Power,
        Ok(pb::CurveFamily::Exponential) => Model::Exp,
        Ok(pb::CurveFamily::Linear) => Model::Linear,
        Err(_) => {
            let reason = format!("{family} is no family: 1 hill, 2 log, 3 power, 4 exponential, 5 linear");
            return Err(wrong(format!("{path}.family"), reason));
        }
    };
    let pairs = spends.iter().zip(responses);
    let rows: Vec<Observation> = pairs.map(|(&spend, &response)| Observation { spend, response }).collect();
    let fit = fit(model, &rows).map_err(|error| match &error {
        FitError::Row { row, field, value } => {
            wrong(format!("{path}.{field}s[{row}]"), format!("{value} must be finite and 0 or more"))
        }
        FitError::TooFewRows { .. } => wrong(format!("{path}.spends"), error.to_string()),
        FitError::NoResponse => wrong(format!("{path}.responses"), error.to_string()),
    })?;
    Ok(Fitted { fit, greatest: spends.iter().copied().fold(0.0, f64::max) })
}

/// All that is wrong with a problem that the domain refused, in the request's terms.
pub(super) fn violations(error: &BudgetError, asked: &[pb::BudgetCampaign], campaigns: &[Campaign]) -> EncodeError {
    let text = error.to_string();
    EncodeError(match error {
        BudgetError::Budget(value) => vec![wrong("budget", format!("{value} must be a finite amount, 0 or more"))],
        BudgetError::Infeasible { .. } => vec![wrong("budget", text)],
        BudgetError::NoCampaigns => vec![wrong("campaigns", text)],
        BudgetError::Duplicate(id) => {
            let again = campaigns.iter().enumerate().filter(|(_, c)| c.id == *id).nth(1);
            vec![wrong(again.map_or_else(|| "campaigns".to_owned(), |(i, _)| format!("campaigns[{i}].id")), text)]
        }
        BudgetError::Field { campaign, .. } => {
            // The domain names the first only.
            let all = campaigns
                .iter()
                .zip(asked)
                .enumerate()
                .filter_map(|(i, (c, asked))| Some((i, asked, c.check().err()?)));
            let mut all: Vec<Violation> = all.map(|(i, asked, error)| in_campaign(i, asked, &error)).collect();
            if all.is_empty() {
                // Right by themselves, but not together.
                let at = campaigns.iter().position(|c| c.id == *campaign);
                all.extend(at.map(|i| in_campaign(i, &asked[i], error)));
            }
            all
        }
    })
}

fn in_campaign(i: usize, asked: &pb::BudgetCampaign, error: &BudgetError) -> Violation {
    let BudgetError::Field { field, reason, .. } = error else {
        return wrong(format!("campaigns[{i}]"), error.to_string());
    };
    let bounds = |rest: &str| match asked.schedule {
        Some(asked::Schedule::Daily(_)) => format!("daily.bounds.{rest}"),
        _ => format!("whole.{rest}"),
    };
    let path = if let Some(rest) = field.strip_prefix("daily_potential") {
        format!("daily.potentials{rest}")
    } else if let Some(rest) = field.strip_prefix("curve") {
        match &asked.response {
            Some(asked::Response::Curve(curve)) => format!("curve{}", in_curve(curve, rest)),
            _ => "history".to_owned(),
        }
    } else {
        bounds(field.strip_prefix("daily_").unwrap_or(field))
    };
    wrong(format!("campaigns[{i}].{path}"), reason.clone())
}

/// The domain's path inside a curve, `.components[2].curve.kappa`, as the request has it.
fn in_curve(curve: &pb::ResponseCurve, path: &str) -> String {
    let kind = match &curve.kind {
        Some(Kind::Hill(_)) => "hill",
        Some(Kind::Log(_)) => "log",
        Some(Kind::Power(_)) => "power",
        Some(Kind::Exponential(_)) => "exponential",
        Some(Kind::Linear(_)) => "linear",
        Some(Kind::Mixture(mixture)) => return in_mixture(mixture, path),
        None => "kind",
    };
    // Without a rest it is the curve as a whole.
    if path.is_empty() { String::new() } else { format!(".{kind}{path}") }
}

fn in_mixture(mixture: &pb::CurveMixture, path: &str) -> String {
    let Some(rest) = path.strip_prefix(".components") else { return path.to_owned() };
    let draw = rest.strip_prefix('[').and_then(|r| r.split_once(']'));
    let Some((number, rest)) = draw else { return format!(".mixture.draws{rest}") };
    let curve = number.parse().ok().and_then(|n: usize| mixture.draws.get(n)?.curve.as_ref());
    let rest = match (rest.strip_prefix(".curve"), curve) {
        (Some(rest), Some(curve)) => format!(".curve{}", in_curve(curve, rest)),
        _ => rest.to_owned(),
    };
    format!(".mixture.draws[{number}]{rest}")
}
