//! A window judged by the law that a forecaster predicts of each of its dates.

use aibuyer_domain::{
    anomaly::{Direction, Judgement, Level, Severity, judge},
    forecast::{Frame, FutureError, MAX_HORIZON, Options, Timestamp},
};
use aibuyer_loader::ForecastServable;
use aibuyer_proto::serving::v1 as pb;
use tonic::Status;

use crate::{
    services::forecast::question::{MOST_SAMPLES, read_column},
    status,
};

/// What holds 99 of 100 values.
const USUAL_WIDTH: f64 = 0.99;

/// What is asked of a model.
pub(super) struct Question {
    frame: Frame,
    options: Options,
    level: Level,
    points: Vec<pb::SeriesPoint>,
    alerts_only: bool,
}

impl Question {
    /// Reads a request; what only the model can judge is left to it.
    pub(super) fn read(judge: pb::ModelJudge, request: pb::DetectAnomaliesRequest) -> Result<Self, Status> {
        let pb::DetectAnomaliesRequest { points, alerts_only, return_state, .. } = request;
        if return_state {
            return Err(status::invalid_field("return_state", "a model has no state: ask for it with a detector"));
        }
        if points.len() > MAX_HORIZON {
            return Err(status::invalid_field("points", format!("must be at most {MAX_HORIZON} with a model")));
        }
        if judge.samples > MOST_SAMPLES {
            return Err(status::invalid_field("by_model.samples", format!("must be at most {MOST_SAMPLES}")));
        }
        let width = judge.interval_width.unwrap_or(USUAL_WIDTH);
        let level = Level::new(width)
            .map_err(|_| status::invalid_field("by_model.interval_width", "must be above 0 and below 1"))?;
        let time = |(place, point): (usize, &pb::SeriesPoint)| {
            let reason = "is required where a model judges: it forecasts by date";
            let missing = || status::invalid_field(&format!("points[{place}].unix_micros"), reason);
            point.unix_micros.map(Timestamp::from_micros).ok_or_else(missing)
        };
        let times = points.iter().enumerate().map(time).collect::<Result<_, _>>()?;
        let mut frame = Frame::new(times);
        for (place, column) in judge.columns.into_iter().enumerate() {
            let (name, column) = read_column("by_model.columns", place, column)?;
            frame = frame.with(name, column);
        }
        let options = Options { samples: judge.samples as usize, seed: judge.seed, ..Options::default() };
        Ok(Self { frame, options, level, points, alerts_only })
    }

    /// Judges every point, in the order of their dates.
    pub(super) fn answer(&self, by: &ForecastServable) -> Result<pb::DetectAnomaliesResponse, Status> {
        let laws = by.model.laws(&self.frame, &self.options).map_err(|error| refusal(&error))?;
        let mut side = None;
        let mut readings: Vec<pb::AnomalyReading> = Vec::with_capacity(laws.len());
        for (place, law) in laws {
            let point = &self.points[place];
            let judgement = judge(&law, point.value, self.level);
            let alert = match judgement.surprise {
                None => false,
                Some(surprise) => {
                    let outside = surprise.direction.filter(|_| surprise.severity > Severity::Normal);
                    let begins = outside.is_some() && outside != side;
                    side = outside;
                    begins
                }
            };
            if alert || !self.alerts_only {
                readings.push(reading(place, point, &judgement, alert));
            }
        }
        readings.sort_by_key(|reading| reading.index);
        let alerts = readings.iter().filter(|reading| reading.alert).count();
        let exact = by.model.has_exact_law();
        Ok(pb::DetectAnomaliesResponse {
            alerts: narrow(alerts),
            readings,
            state: None,
            model: Some(pb::ServedModel { name: by.id.name.to_string(), version: by.id.version.get() }),
            method: if exact { pb::ForecastMethod::Exact } else { pb::ForecastMethod::MonteCarlo }.into(),
        })
    }
}

fn refusal(error: &FutureError) -> Status {
    let field = error.column().map_or_else(|| "points".to_owned(), |column| format!("by_model.columns[{column:?}]"));
    status::invalid_field(&field, error.to_string())
}

fn reading(place: usize, point: &pb::SeriesPoint, of: &Judgement, alert: bool) -> pb::AnomalyReading {
    let direction = match of.surprise.and_then(|surprise| surprise.direction) {
        None => pb::AnomalyDirection::Unspecified,
        Some(Direction::High) => pb::AnomalyDirection::High,
        Some(Direction::Low) => pb::AnomalyDirection::Low,
    };
    let severity = match of.surprise.map(|surprise| surprise.severity) {
        None => pb::AnomalySeverity::Unspecified,
        Some(Severity::Normal) => pb::AnomalySeverity::Normal,
        Some(Severity::Low) => pb::AnomalySeverity::Low,
        Some(Severity::Medium) => pb::AnomalySeverity::Medium,
        Some(Severity::High) => pb::AnomalySeverity::High,
        Some(Severity::Critical) => pb::AnomalySeverity::Critical,
    };
    pb::AnomalyReading {
        index: narrow(place),
        unix_micros: point.unix_micros,
        alert,
        score: 0.0,
        channel: pb::AnomalyChannel::Unspecified.into(),
        expected: Some(of.expected),
        direction: direction.into(),
        lower: Some(of.lower),
        upper: Some(of.upper),
        p_value: of.surprise.map(|surprise| surprise.p_value),
        severity: severity.into(),
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
