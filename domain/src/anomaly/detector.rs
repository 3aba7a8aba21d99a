//! The streaming detector: one series, constant memory, one alert an event.

use serde::{Deserialize, Serialize};

use super::{
    channel::{CHANNELS, Channel, Measures, Windows},
    extremes::Extremes,
};
use crate::ErrorKind;

/// What the detector goes by; one setting serves series of all kinds. Lengths are in values of the series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Length of the short run, 2 or more.
    pub short: u32,
    /// Length of the long run, above that of the short one.
    pub long: u32,
    /// Length of the run over which the usual step is learned, 2 or more.
    pub step: u32,
    /// Length of a block of time whose greatest values are remembered, 2 or more.
    pub block: u32,
    /// Score from which there is an alert, above 0.
    pub threshold: f64,
    /// Values after an alert that raise no other.
    pub refractory: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { short: 56, long: 1800, step: 600, block: 68, threshold: 2.55, refractory: 158 }
    }
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("detector setting {field}: {reason}")]
pub struct SettingsError {
    /// The setting.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl SettingsError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What one value came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// How far the most unusual channel lies above what is usual of its greatest values, in standard deviations; 0
    /// where nothing is unusual, for a missing value and while the first blocks fill.
    pub score: f64,
    /// The most unusual channel; `None` where the score is 0.
    pub channel: Option<Channel>,
    /// Whether this value begins an event. Never within the refractory period of another.
    pub alert: bool,
}

/// Values before which there is no alert.
const EARLIEST: u64 = 50;

/// The state of one series, about 1 KB. It serialises: a detector that was written and read goes on where it was, to
/// the bit in a format that keeps doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    settings: Settings,
    measures: Measures,
    extremes: [Extremes; CHANNELS.len()],
    quiet: u32,
}

impl Detector {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting that is out of range.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let Settings { short, long, step, block, threshold, .. } = settings;
        let bad = |field, reason| Err(SettingsError { field, reason });
        for (field, length) in [("short", short), ("step", step), ("block", block)] {
            if length < 2 {
                return bad(field, format!("{length} must be 2 or more"));
            }
        }
        if long <= short {
            return bad("long", format!("{long} must be above short, {short}"));
        }
        if !(threshold > 0.0 && threshold.is_finite()) {
            return bad("threshold", format!("{threshold} must be finite and above 0"));
        }
        let extremes = [(); CHANNELS.len()].map(|()| Extremes::new());
        Ok(Self { settings, measures: Measures::new(), extremes, quiet: 0 })
    }

    /// What the detector goes by.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Values seen so far, missing ones left out.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.measures.count()
    }

    /// The series' long-run level so far; `None` before its first value.
    #[must_use]
    pub fn expected(&self) -> Option<f64> {
        self.measures.level()
    }

    /// Takes the series' next value. A missing one (`None` or not finite) is no anomaly and teaches nothing; only the
    /// refractory period passes.
    pub fn push(&mut self, value: Option<f64>) -> Reading {
        let quiet = self.quiet > 0;
        self.quiet = self.quiet.saturating_sub(1);
        let Some(value) = value.filter(|v| v.is_finite()) else {
            return Reading { score: 0.0, channel: None, alert: false };
        };
        let Settings { short, long, step, block, threshold, refractory } = self.settings;
        let windows = Windows { short: f64::from(short), step: f64::from(step), long: f64::from(long) };
        let measured = self.measures.push(value, windows);
        let (mut score, mut channel) = (0.0, None);
        for ((extremes, measure), name) in self.extremes.iter_mut().zip(measured).zip(CHANNELS) {
            let of = extremes.push(measure, block);
            if of > score {
                (score, channel) = (of, Some(name));
            }
        }
        let alert = !quiet && score > threshold && self.measures.count() > EARLIEST;
        if alert {
            self.quiet = refractory;
        }
        Reading { score, channel, alert }
    }
}
