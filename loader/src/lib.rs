//! From a version's files to a warm servable that batches requests; and which servable answers what.
//!
//! Data takes two ways through this crate. A version: [`Manager`] compares the desired state with what is
//! there and takes one action at a time ([`policy`], pure); a load goes through [`stages`], whose types make
//! it impossible to open what was not verified or serve what was not warmed; the result is published in the
//! [`ServingMap`] by one swap. A request: it resolves its servable in the map and calls
//! [`CtrServable::score`], which queues rows for the version's lanes ([`batch`]).
//!
//! What deliberately does not live here: registries (the server hands over the desired state and an
//! artifact store), the wire, encoding rules and interval maths (`aibuyer-domain`).

pub mod batch;
pub mod device;
mod error;
pub mod executor;
#[cfg(test)]
mod fake;
pub mod gate;
mod manager;
mod memory;
pub mod onnx;
mod phase;
pub mod policy;
pub mod requests;
mod servable;
pub mod serving_map;
pub mod session;
pub mod stages;
pub mod tensor;
pub mod threads;

pub use error::LoadError;
pub use manager::{Beginning, Change, Manager, ManagerOptions, Observer, Transition};
pub use phase::{Failure, Phase};
pub use servable::{
    Batched, CtrScores, CtrServable, ForecastServable, Loaded, PlainServable, Servable, WindowServable,
};
pub use serving_map::{ResolveError, ServingMap};
