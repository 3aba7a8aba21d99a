//! Pure maths and vocabulary of the engine: what a model version is called, how named features become
//! tensors, how a model's output becomes a click-through rate with an interval, how a Prophet model forecasts, where to
//! put a budget, what is abnormal, how good predictions turned out to be.
//!
//! What deliberately does not live here: tokio, files, sockets, clocks, global randomness. Every function
//! is a function of its arguments, so everything here is tested without a server.
//!
//! Data takes this way: [`model`] names who must answer; [`ctr::FeatureSpec`] is read once a version;
//! [`ctr::Encoder`] turns a request's columns into [`ctr::Rows`]; a session (elsewhere) turns rows into
//! logits; [`ctr::estimate`] turns a logit and its variance into a probability with bounds. What needs no session stands
//! by itself: [`forecast::Prophet`] answers for a [`forecast::Frame`], [`budget`] turns response curves into a plan,
//! [`anomaly`] a series into alerts, [`quality`] counts of what was predicted and came about into figures.

pub mod anomaly;
pub mod budget;
pub mod ctr;
pub mod error;
pub mod feature_view;
pub mod forecast;
pub mod model;
pub mod quality;

pub use error::ErrorKind;
