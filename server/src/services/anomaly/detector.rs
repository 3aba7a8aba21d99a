//! Detectors of the domain, their settings and states as messages.

use aibuyer_domain::anomaly::{Channel, Detector, Reading, Settings};
use aibuyer_proto::serving::v1::{self as pb, streaming_detector::Start};
use prost::bytes::Bytes;
use tonic::Status;

use crate::status;

/// Form of a state; another has another first byte.
const FORM: u8 = 1;

/// No state is larger.
const MAX_STATE: usize = 1 << 16;

/// A detector as it was asked for; `path` names it in violations.
///
/// # Errors
/// INVALID_ARGUMENT with the setting that is out of range, or where a state cannot be read.
pub(super) fn open(from: Option<&pb::StreamingDetector>, path: &str) -> Result<Detector, Status> {
    match from.and_then(|from| from.start.as_ref()) {
        None => begin(Settings::default(), path),
        Some(Start::Settings(asked)) => begin(settings(asked), path),
        Some(Start::State(state)) => read(state).ok_or_else(|| {
            let reason =
                "cannot be read: send the bytes of an answer of this server's version as they came, or begin anew";
            status::invalid_field(&format!("{path}.state"), reason)
        }),
    }
}

fn begin(settings: Settings, path: &str) -> Result<Detector, Status> {
    Detector::new(settings)
        .map_err(|error| status::invalid_field(&format!("{path}.settings.{}", error.field), error.reason))
}

fn settings(asked: &pb::DetectorSettings) -> Settings {
    let usual = Settings::default();
    Settings {
        short: asked.short.unwrap_or(usual.short),
        long: asked.long.unwrap_or(usual.long),
        step: asked.step.unwrap_or(usual.step),
        block: asked.block.unwrap_or(usual.block),
        threshold: asked.threshold.unwrap_or(usual.threshold),
        refractory: asked.refractory.unwrap_or(usual.refractory),
    }
}

fn read(state: &[u8]) -> Option<Detector> {
    let (form, text) = state.split_first()?;
    if *form != FORM || text.len() > MAX_STATE {
        return None;
    }
    let detector: Detector = serde_json::from_slice(text).ok()?;
    // Whoever sends it may have written it.
    Detector::new(detector.settings()).ok()?;
    Some(detector)
}

/// What a detector knows.
pub(super) fn state(detector: &Detector) -> Result<Bytes, Status> {
    let mut bytes = vec![FORM];
    serde_json::to_writer(&mut bytes, detector).map_err(|error| status::unwritten(&error))?;
    Ok(bytes.into())
}

/// Shows the points to the detector.
pub(super) fn readings(
    detector: &mut Detector,
    points: &[pb::SeriesPoint],
    alerts_only: bool,
) -> Vec<pb::AnomalyReading> {
    let all = (0..).zip(points).map(|(index, point)| {
        let expected = detector.expected();
        reading(index, point, expected, detector.push(point.value))
    });
    all.filter(|reading| reading.alert || !alerts_only).collect()
}

fn reading(index: u32, point: &pb::SeriesPoint, level: Option<f64>, of: Reading) -> pb::AnomalyReading {
    let Reading { score, channel, alert } = of;
    let expected = point.value.filter(|value| value.is_finite()).and(level);
    let direction = match point.value.zip(expected) {
        Some((value, expected)) if value > expected => pb::AnomalyDirection::High,
        Some((value, expected)) if value < expected => pb::AnomalyDirection::Low,
        _ => pb::AnomalyDirection::Unspecified,
    };
    pb::AnomalyReading {
        index,
        unix_micros: point.unix_micros,
        alert,
        score,
        channel: channel.map_or(pb::AnomalyChannel::Unspecified, named).into(),
        expected,
        direction: direction.into(),
        ..Default::default()
    }
}

fn named(channel: Channel) -> pb::AnomalyChannel {
    match channel {
        Channel::Jump => pb::AnomalyChannel::Jump,
        Channel::Distance => pb::AnomalyChannel::Distance,
        Channel::Shift => pb::AnomalyChannel::Shift,
        Channel::Error => pb::AnomalyChannel::Error,
        Channel::Departure => pb::AnomalyChannel::Departure,
    }
}
