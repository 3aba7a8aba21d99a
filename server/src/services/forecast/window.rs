//! Forecasts of ONNX models: from a request to the window that the model sees, and from its quantiles to the reply.

use std::{sync::Arc, time::Instant};

use aibuyer_domain::forecast::{
    Frequency, MAX_HORIZON, Options, Timestamp,
    window::{ForecastSpec, History, HistoryError, Quantiles},
};
use aibuyer_loader::{Servable, WindowServable, batch::ScoreError, requests::Attempt};
use aibuyer_proto::serving::v1::{self as pb, forecast_context::When, forecast_request::Rows};
use tonic::Status;

use super::question::MOST_QUANTILES;
use crate::status;

/// What is asked of a model.
#[derive(Debug)]
struct Question {
    window: Vec<f32>,
    /// The dates to forecast.
    dates: Vec<Timestamp>,
    /// Places of the quantiles in the spec's list, ascending.
    places: Vec<usize>,
}

/// The answer to a request that was taken up at `started`.
pub(super) async fn answer(
    servable: Arc<WindowServable>,
    request: pb::ForecastRequest,
    started: Instant,
    deadline: Instant,
) -> Result<pb::ForecastResponse, Status> {
    let attempt = Attempt::new(Servable::Window(Arc::clone(&servable)), started);
    let spec = &servable.spec;
    let Question { window, dates, places } = Question::read(request, spec)?;
    let read = Instant::now();
    let scores = servable.score(window, read, deadline).await.map_err(|e| status::from_score(&e))?;
    let scored = Instant::now();
    let Some(quantiles) = Quantiles::read(spec, &scores.outputs, dates.len()) else {
        servable.batcher().count_not_finite(1);
        let failure = format!("{} gave a quantile that is not a finite number", servable.id);
        return Err(status::from_score(&ScoreError::Failed(failure)));
    };
    let columns = places
        .iter()
        .map(|place| pb::ForecastQuantile { probability: spec.quantiles[*place], values: quantiles.at(*place) });
    let id = &servable.id;
    let answer = pb::ForecastResponse {
        model: Some(pb::ServedModel { name: id.name.to_string(), version: id.version.get() }),
        unix_micros: dates.iter().map(|date| date.micros()).collect(),
        yhat: quantiles.at(spec.median()),
        quantiles: columns.collect(),
        method: pb::ForecastMethod::Model.into(),
        ..Default::default()
    };
    attempt.answered([read - started, scores.queue, scores.compute, scored.elapsed()]);
    Ok(answer)
}

impl Question {
    fn read(request: pb::ForecastRequest, spec: &ForecastSpec) -> Result<Self, Status> {
        for (asked, field) in [
            (request.include_trend_quantiles, "include_trend_quantiles"),
            (request.include_components, "include_components"),
        ] {
            if asked {
                return Err(status::invalid_field(field, "is for Prophet models: an ONNX model has no such parts"));
            }
        }
        let places = places(&request, spec)?;
        let history = history(request.context, spec)?;
        let window = history.window(spec).map_err(|e| refusal(&e))?;
        let dates = dates(request.rows, &history, spec)?;
        Ok(Self { window, dates, places })
    }
}

/// INVALID_ARGUMENT for a context that a model cannot forecast from.
fn refusal(error: &HistoryError) -> Status {
    let field = if error.is_about_dates() { "context.when" } else { "context.values" };
    status::invalid_field(field, error.to_string())
}

fn history(context: Option<pb::ForecastContext>, spec: &ForecastSpec) -> Result<History, Status> {
    let Some(pb::ForecastContext { values, when }) = context else {
        let reason = format!(
            "is required: the model forecasts from the last {} values of the series, at steps of `{}`",
            spec.context_length, spec.frequency
        );
        return Err(status::invalid_field("context", reason));
    };
    if values.len() > MAX_HORIZON {
        return Err(status::invalid_field("context.values", format!("must be at most {MAX_HORIZON}")));
    }
    let history = match when {
        Some(When::LastUnixMicros(last)) => History::ending(values, Timestamp::from_micros(last), &spec.frequency),
        Some(When::Dates(dates)) => {
            let dates: Vec<_> = dates.unix_micros.into_iter().map(Timestamp::from_micros).collect();
            History::dated(&dates, &values, &spec.frequency)
        }
        None => {
            let reason = "is required: set last_unix_micros, the date of the last value, or the dates of all";
            return Err(status::invalid_field("context.when", reason));
        }
    };
    history.map_err(|e| refusal(&e))
}

/// The dates that the request asks for: the first ones after the context.
fn dates(rows: Option<Rows>, history: &History, spec: &ForecastSpec) -> Result<Vec<Timestamp>, Status> {
    let range = match rows {
        Some(Rows::Range(range)) => range,
        Some(Rows::Dates(_)) => {
            let reason = "are for Prophet models: an ONNX model forecasts the steps after its context, so send a range";
            return Err(status::invalid_field("dates", reason));
        }
        None => return Err(status::invalid_field("rows", "is required: set range")),
    };
    let own = &spec.frequency;
    let asked = match range.frequency.as_str() {
        "" => own.frequency,
        name => Frequency::parse(name).map_err(|e| status::invalid_field("range.frequency", e.to_string()))?,
    };
    if !asked.agrees(own.frequency) {
        let reason = format!("is `{}`, the model forecasts steps of `{own}`: leave it empty", range.frequency);
        return Err(status::invalid_field("range.frequency", reason));
    }
    let steps = range.horizon as usize;
    if steps == 0 || steps > spec.horizon {
        let reason = format!("is {steps}, must be 1 to {}, the model's own", spec.horizon);
        return Err(status::invalid_field("range.horizon", reason));
    }
    let dates = history.dates(spec, steps).map_err(|e| status::invalid_field("range", e.to_string()))?;
    match (range.start_unix_micros.map(Timestamp::from_micros), dates.first()) {
        (Some(start), Some(first)) if start != *first => {
            let reason = format!("is {start}, and {first} follows the context: leave it out, or send later values");
            Err(status::invalid_field("range.start_unix_micros", reason))
        }
        _ => Ok(dates),
    }
}

/// Ascending, each once.
fn places(request: &pb::ForecastRequest, spec: &ForecastSpec) -> Result<Vec<usize>, Status> {
    if request.quantiles.len() > MOST_QUANTILES {
        return Err(status::invalid_field("quantiles", format!("must be at most {MOST_QUANTILES}")));
    }
    if request.quantiles.is_empty() && request.interval_width.is_none() {
        return Ok((0..spec.quantiles.len()).collect());
    }
    let place = |field: &str, probability: f64| {
        spec.place_of(probability).map_err(|e| status::invalid_field(field, e.to_string()))
    };
    let mut places = Vec::new();
    for probability in &request.quantiles {
        places.push(place("quantiles", *probability)?);
    }
    if let Some(width) = request.interval_width {
        if !(width > 0.0 && width < 1.0) {
            return Err(status::invalid_field("interval_width", "must be above 0 and below 1"));
        }
        for probability in Options::interval(width).quantiles {
            places.push(place("interval_width", probability)?);
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}
