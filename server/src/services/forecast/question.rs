//! From a request to the rows and options that a model takes.

use aibuyer_domain::forecast::{
    Column, Frame, Frequency, FrequencyError, FutureError, MAX_HORIZON, Options, Prophet, Timestamp,
};
use aibuyer_proto::serving::v1::{self as pb, column::Values, forecast_request::Rows};
use tonic::Status;

use crate::status;

/// Quantiles of one request.
pub(super) const MOST_QUANTILES: usize = 100;
/// Values of a simulation for each row.
pub(in crate::services) const MOST_SAMPLES: u32 = 100_000;

/// What is asked of a model.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) frame: Frame,
    pub(super) options: Options,
    /// Whether the caller gave each date, and so an order.
    pub(super) ordered: bool,
}

impl Question {
    /// Reads a request; what only the model can judge is left to it.
    pub(super) fn read(request: pb::ForecastRequest, model: &Prophet) -> Result<Self, Status> {
        if request.context.is_some() {
            let reason = "is for ONNX models: a Prophet model knows its series, so leave it out";
            return Err(status::invalid_field("context", reason));
        }
        let ordered = matches!(request.rows, Some(Rows::Dates(_)));
        let quantiles = quantiles(&request, model)?;
        if request.samples > MOST_SAMPLES {
            return Err(status::invalid_field("samples", format!("must be at most {MOST_SAMPLES}")));
        }
        let options = Options {
            quantiles,
            trend: request.include_trend_quantiles,
            components: request.include_components,
            samples: request.samples as usize,
            seed: request.seed,
        };
        let mut frame = Frame::new(dates(request.rows, model)?);
        for (place, column) in request.columns.into_iter().enumerate() {
            let (name, column) = read_column("columns", place, column)?;
            frame = frame.with(name, column);
        }
        Ok(Self { frame, options, ordered })
    }
}

/// INVALID_ARGUMENT for rows that a model refuses.
pub(super) fn refusal(error: &FutureError) -> Status {
    let field = match error {
        FutureError::Probability(_) => "quantiles".to_owned(),
        FutureError::Frequency(_) => "range".to_owned(),
        _ => error.column().map_or_else(|| "dates".to_owned(), |column| format!("columns[{column:?}]")),
    };
    status::invalid_field(&field, error.to_string())
}

/// Ascending, each once.
fn quantiles(request: &pb::ForecastRequest, model: &Prophet) -> Result<Vec<f64>, Status> {
    let mut quantiles = request.quantiles.clone();
    let width = match request.interval_width {
        None if quantiles.is_empty() => model.interval_width(),
        width => width,
    };
    if let Some(width) = width {
        if !(width > 0.0 && width < 1.0) {
            return Err(status::invalid_field("interval_width", "must be above 0 and below 1"));
        }
        quantiles.extend(Options::interval(width).quantiles);
    }
    if quantiles.len() > MOST_QUANTILES {
        return Err(status::invalid_field("quantiles", format!("must be at most {MOST_QUANTILES}")));
    }
    quantiles.sort_by(f64::total_cmp);
    quantiles.dedup();
    Ok(quantiles)
}

fn dates(rows: Option<Rows>, model: &Prophet) -> Result<Vec<Timestamp>, Status> {
    match rows {
        None => Err(status::invalid_field("rows", "is required: set dates or range")),
        Some(Rows::Dates(dates)) if dates.unix_micros.len() > MAX_HORIZON => {
            Err(status::invalid_field("dates.unix_micros", format!("must be at most {MAX_HORIZON}")))
        }
        Some(Rows::Dates(dates)) => Ok(dates.unix_micros.into_iter().map(Timestamp::from_micros).collect()),
        Some(Rows::Range(range)) => {
            let wrong = |e: FrequencyError| status::invalid_field("range", e.to_string());
            let frequency = Frequency::parse(&range.frequency)
                .map_err(|e| status::invalid_field("range.frequency", e.to_string()))?;
            let horizon = range.horizon as usize;
            match (range.start_unix_micros, model.last_date()) {
                (Some(start), _) => frequency.dates_from(Timestamp::from_micros(start), horizon).map_err(wrong),
                (None, Some(last)) => frequency.dates_after(last, horizon).map_err(wrong),
                (None, None) => {
                    let reason = "is required: the model's file does not say when its history ends";
                    Err(status::invalid_field("range.start_unix_micros", reason))
                }
            }
        }
    }
}

/// A column of the field `path`.
pub(in crate::services) fn read_column(
    path: &str,
    place: usize,
    column: pb::Column,
) -> Result<(String, Column), Status> {
    let pb::Column { name, values, missing } = column;
    if name.is_empty() {
        return Err(status::invalid_field(&format!("{path}[{place}].name"), "is empty; name the column"));
    }
    let fail = |reason: &str| Err(status::invalid_field(&format!("{path}[{name:?}]"), reason));
    if let Some(row) = missing.first() {
        return fail(&format!("row {row} has no value: a forecast needs one for every row"));
    }
    #[allow(clippy::cast_precision_loss)] // whole numbers beyond 2^53 are no regressors
    let column = match values {
        Some(Values::Doubles(values)) => Column::Numbers(values.values),
        Some(Values::Int64s(values)) => Column::Numbers(values.values.into_iter().map(|v| v as f64).collect()),
        Some(Values::Bools(values)) => Column::Flags(values.values),
        Some(Values::Strings(_) | Values::StringLists(_)) => return fail("holds text: send doubles, int64s or bools"),
        None => return fail("has no values; set one of doubles, int64s, bools"),
    };
    Ok((name, column))
}
