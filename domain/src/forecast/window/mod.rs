//! Forecasters that map the last values of a series to quantiles of the next ones, whatever network does it.
//!
//! [`ForecastSpec`] is what ships with the model: length of the context, horizon, quantiles, steps, what becomes of
//! missing values. A request's values become a [`History`], that becomes the window which the model takes, and what
//! the model gives becomes a [`Quantiles`] with nothing made up. The model itself runs elsewhere.

pub mod golden;
mod history;
mod quantiles;
mod spec;

pub use history::{History, HistoryError};
pub use quantiles::{Quantiles, UnknownQuantile};
pub use spec::{ForecastSpec, Missing, SpecError, Step};
