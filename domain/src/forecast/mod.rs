//! Forecasts of Prophet models without Python (Taylor & Letham 2018, "Forecasting at scale"); and, in [`window`], what
//! forecasters that are ONNX models promise and are asked.
//!
//! Data takes this way: the text of a model file becomes `raw` types that know Prophet's JSON, those become a
//! checked, immutable [`Prophet`], and that answers for a [`Frame`] of dates and columns. There is no unfitted model
//! and no fitting here. Intervals come from the predictive law itself where there is one (`law`), else from a
//! seeded simulation by Prophet's scheme; the answer says which.

mod design;
mod drift;
mod error;
mod evaluate;
mod frame;
mod frequency;
mod holidays;
mod law;
mod model;
mod raw;
mod rng;
mod season;
mod simulate;
mod time;
mod trend;
pub mod window;

pub use design::Mode;
pub use error::{FutureError, ModelError, Role};
pub use evaluate::{Component, Forecast, Method, Options};
pub use frame::{Column, Frame};
pub use frequency::{Frequency, FrequencyError, MAX_HORIZON};
pub use law::Law;
pub use model::Prophet;
pub use time::{TimeError, Timestamp};
pub use trend::Growth;
