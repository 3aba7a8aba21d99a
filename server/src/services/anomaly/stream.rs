//! The series of one stream, with a detector each.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aibuyer_domain::anomaly::Detector;
use aibuyer_proto::serving::v1::{self as pb, stream_anomalies_response::Result as Outcome};
use tonic::Status;

use super::detector;
use crate::{services::streams::Answer, status};

/// The method, as metrics name it.
pub(super) const METHOD: &str = "aibuyer.serving.v1.AnomalyService/StreamAnomalies";

/// Series of one stream: a detector is a kilobyte.
const MAX_SERIES: usize = 10_000;

/// Points of one request: well below a millisecond.
const MAX_POINTS: usize = 1_000;

/// Bytes of a series' name.
const MAX_NAME: usize = 256;

/// Detectors by series.
#[derive(Debug, Default)]
pub(super) struct Series(Mutex<HashMap<String, Detector>>);

impl Series {
    /// The answer to the next request.
    pub(super) fn answer(&self, request: pb::StreamAnomaliesRequest) -> Answer<pb::StreamAnomaliesResponse> {
        let series = request.series.clone();
        let (result, code) = match self.readings(request) {
            Ok(readings) => (Outcome::Readings(readings), status::OK),
            Err(error) => (Outcome::Error(status::as_message(&error)), status::name_of(&error)),
        };
        Answer { message: pb::StreamAnomaliesResponse { series, result: Some(result) }, code }
    }

    fn readings(&self, request: pb::StreamAnomaliesRequest) -> Result<pb::SeriesReadings, Status> {
        let pb::StreamAnomaliesRequest { series, points, detector: from, alerts_only, return_state, last } = request;
        if series.is_empty() || series.len() > MAX_NAME {
            let reason = format!("has {} bytes, needs 1 to {MAX_NAME}: name the series", series.len());
            return Err(status::invalid_field("series", reason));
        }
        if points.len() > MAX_POINTS {
            let reason = format!("{} are more than the {MAX_POINTS} of one request: send several", points.len());
            return Err(status::invalid_field("points", reason));
        }
        let mut detectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = detectors.get(&series);
        if known.is_some() && from.is_some() {
            let reason =
                "belongs to the first request of a series: this one has begun, end it with `last` to begin anew";
            return Err(status::invalid_field("detector", reason));
        }
        if known.is_none() && detectors.len() >= MAX_SERIES {
            let reason = format!("the stream has {MAX_SERIES} already: end some with `last`, or open another stream");
            return Err(status::invalid_field("series", reason));
        }
        // Put back when nothing has failed.
        let mut detector = match known {
            Some(detector) => detector.clone(),
            None => detector::open(from.as_ref(), "detector")?,
        };
        let readings = detector::readings(&mut detector, &points, alerts_only);
        let state = return_state.then(|| detector::state(&detector)).transpose()?;
        if last {
            detectors.remove(&series);
        } else {
            detectors.insert(series, detector);
        }
        Ok(pb::SeriesReadings { readings, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_the_last_request_of_one_makes_room() {
        let all = Series::default();
        let ask = |series: String, last| {
            let request = pb::StreamAnomaliesRequest { series, last, ..Default::default() };
            all.answer(request).code
        };
        assert!((0..MAX_SERIES).all(|i| ask(i.to_string(), false) == status::OK));
        assert_eq!(ask("one more".to_owned(), false), "INVALID_ARGUMENT");
        assert_eq!(ask("7".to_owned(), true), status::OK);
        assert_eq!(ask("one more".to_owned(), false), status::OK);
    }
}
