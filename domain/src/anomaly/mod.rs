//! What is abnormal: a point against what was predicted of it, or a stream against its own past.
//!
//! [`judge()`] compares a value with a predictive law (a forecast's): expected value, bounds, two-sided p-value,
//! direction, severity. Anything that is a [`PredictiveLaw`] will do.
//!
//! [`Detector`] needs no forecast: it watches one series in constant memory and [`Detector::push`] says for each value
//! how unlike the past the series has become. It raises one alert an event: after an alert it is silent for a
//! refractory period. A missing value is no anomaly, and no news either.
//!
//! How the detector works: five [`Channel`]s each measure one way of being unusual, as a non-negative number without
//! unit: a jump, a far value, a shifted level, a changed error, a departure. What is usual differs between series and
//! channels, so each is held against its own greatest values in recent blocks of time. Block maxima follow an
//! extreme-value law (Fisher and Tippett 1928; for streams Siffer et al., "Anomaly Detection in Streams with Extreme
//! Value Theory", KDD 2017), and the score is a value's distance from theirs in standard deviations of their logarithm.
//! A channel that is often extreme so silences itself. Setting a short window of errors against a long one is the
//! likelihood of Ahmad et al., "Unsupervised real-time anomaly detection for streaming data", Neurocomputing 2017.
//!
//! What does not live here: forecasts, clocks, storage. A detector's state is plain data that serde can write.

mod channel;
mod detector;
mod extremes;
mod judge;

pub use channel::Channel;
pub use detector::{Detector, Reading, Settings, SettingsError};
pub use judge::{Direction, Judgement, Level, PredictiveLaw, Severity, Surprise, judge};
