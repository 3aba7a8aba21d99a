//! How good a model's predictions turned out to be: [`Quality`] of predicted against observed clicks, and [`drift`] of
//! its inputs against what it was trained on.
//!
//! Everything here is arithmetic on counts. Who counts, and what a count means, is the caller's matter.

mod drift;
mod outcome;

pub use drift::{Drift, Reading, drift};
pub use outcome::{Bin, Quality, quality, wilson};
