//! Predicted against observed.

use std::time::Instant;

use aibuyer_domain::quality::{Bin, Quality, quality, wilson};
use aibuyer_features::analytics::{Analytics as Past, Cells, Log, Scored};
use aibuyer_proto::serving::v1::{self as pb, model_selector};
use tonic::Status;

use super::{Analytics, Violations};
use crate::status;

const HOUR: u32 = 3600;
const MOST_DAYS: u32 = 92;
const USUAL_BINS: u32 = 10;
/// Longest name of a model, in bytes.
const LONGEST: usize = 500;

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) log: Log,
    bins: u32,
}

impl Question {
    pub(super) fn read(request: pb::ModelQualityRequest) -> Result<Self, Status> {
        let mut wrong = Violations::default();
        let pb::ModelSelector { name: model, pick } = request.model.unwrap_or_default();
        if model.is_empty() {
            wrong.add("model.name", "is required");
        } else if model.len() > LONGEST {
            wrong.add("model.name", format!("is longer than {LONGEST} bytes"));
        }
        let version = match pick {
            Some(model_selector::Pick::Version(version)) if version > 0 => version,
            Some(model_selector::Pick::Version(_)) => {
                wrong.add("model.version", "must be 1 or greater");
                0
            }
            Some(model_selector::Pick::Alias(_)) | None => {
                wrong.add("model.version", "is required: an alias may have moved within the time");
                0
            }
        };
        let since = wrong.or_default("start_time", second(request.start_time, false));
        let until = wrong.or_default("end_time", second(request.end_time, true));
        if wrong.0.is_empty() {
            if until <= since {
                wrong.add("end_time", "must be after start_time");
            } else if until - since > MOST_DAYS * 24 * HOUR {
                wrong.add("end_time", format!("is more than {MOST_DAYS} days after start_time: narrow the range"));
            }
        }
        let bins = if request.bins == 0 { USUAL_BINS } else { request.bins };
        if !(2..=100).contains(&bins) {
            wrong.add("bins", format!("is {bins}, may be 2 to 100, or 0 for {USUAL_BINS}"));
        }
        wrong.check()?;
        Ok(Self { log: Log { model, version, since, until }, bins })
    }
}

impl Analytics {
    /// The answer from ClickHouse and the profile of the version, if it is loaded.
    pub(super) async fn quality(
        &self,
        past: &Past,
        question: &Question,
        deadline: Instant,
    ) -> Result<pb::ModelQualityResponse, Status> {
        let Question { log, bins } = question;
        let scored = past.scored(log, *bins, deadline).await.map_err(|e| status::from_analytics(&e))?;
        let mut reply = reply(log, &scored);
        match self.drift(past, log, deadline).await? {
            Ok(drift) => reply.drift = drift,
            Err(reason) => reply.drift_unavailable = reason,
        }
        Ok(reply)
    }
}

#[allow(clippy::cast_precision_loss)] // a share of so great counts is right all the same
fn reply(log: &Log, scored: &Scored) -> pb::ModelQualityResponse {
    let every = || scored.bins.iter().chain(&scored.alone);
    let predictions: u64 = every().map(|cells| cells.predictions).sum();
    let fallbacks: u64 = every().map(|cells| cells.fallbacks).sum();
    let bins: Vec<Bin> = scored.bins.iter().map(bin).collect();
    let time = |seconds: u32| Some(prost_types::Timestamp { seconds: seconds.into(), nanos: 0 });
    pb::ModelQualityResponse {
        model: Some(pb::ServedModel { name: log.model.clone(), version: log.version }),
        start_time: time(log.since),
        end_time: time(log.until),
        predictions,
        fallback_share: (predictions > 0).then(|| fallbacks as f64 / predictions as f64),
        predictions_without_impressions: scored.alone.as_ref().map_or(0, |alone| alone.predictions),
        impressions_without_predictions: scored.alone.as_ref().map_or(0, |alone| alone.impressions),
        clicks_beyond_impressions: every().map(|cells| cells.clicks_beyond).sum(),
        figures: quality(&bins).map(figures),
        bins: scored.bins.iter().zip(&bins).map(|(cells, bin)| message(cells, bin)).collect(),
        drift: Vec::new(),
        drift_unavailable: String::new(),
    }
}

fn bin(cells: &Cells) -> Bin {
    Bin {
        impressions: cells.impressions,
        clicks: cells.clicks,
        predicted_clicks: cells.predicted_clicks,
        loss: cells.loss,
    }
}

fn figures(of: Quality) -> pb::QualityFigures {
    pb::QualityFigures {
        impressions: of.impressions,
        clicks: of.clicks,
        predicted_clicks: of.predicted_clicks,
        predicted_over_observed: of.predicted_over_observed,
        log_loss: of.log_loss,
        base_log_loss: of.base_log_loss,
        normalized_entropy: of.normalized_entropy,
        calibration_error: of.calibration_error,
    }
}

fn message(cells: &Cells, bin: &Bin) -> pb::ScoreBin {
    let (lower, upper) = wilson(bin.clicks, bin.impressions);
    pb::ScoreBin {
        lowest_score: cells.lowest,
        highest_score: cells.highest,
        cells: cells.cells,
        predictions: cells.predictions,
        impressions: bin.impressions,
        clicks: bin.clicks,
        predicted_ctr: bin.predicted(),
        observed_ctr: bin.observed(),
        observed_ctr_lower: lower,
        observed_ctr_upper: upper,
    }
}

/// Seconds since 1970, taken down or up to a full hour.
fn second(time: Option<prost_types::Timestamp>, up: bool) -> Result<u32, String> {
    let prost_types::Timestamp { seconds, nanos } = time.ok_or("is required")?;
    let hour = i64::from(HOUR);
    let hours = seconds.div_euclid(hour) + i64::from(up && (seconds.rem_euclid(hour) > 0 || nanos > 0));
    u32::try_from(hours.saturating_mul(hour)).map_err(|_| "is not within 1970 and 2106".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_hours() {
        let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        assert_eq!((second(at(7200, 0), false), second(at(7200, 0), true)), (Ok(7200), Ok(7200)));
        assert_eq!((second(at(7201, 0), false), second(at(7201, 0), true)), (Ok(7200), Ok(10_800)));
        assert_eq!((second(at(7200, 1), false), second(at(7200, 1), true)), (Ok(7200), Ok(10_800)));
        assert!(second(None, true).is_err() && second(at(-1, 0), false).is_err());
        assert!(second(at(i64::MAX, 0), true).is_err() && second(at(i64::MIN, 0), true).is_err());
    }
}
