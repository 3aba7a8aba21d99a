//! gRPC services, one file each: decode, validate, ask a servable, reply.

pub(crate) mod analytics;
pub(crate) mod anomaly;
pub(crate) mod budget;
pub(crate) mod columns;
pub(crate) mod ctr;
pub(crate) mod forecast;
pub(crate) mod health;
pub(crate) mod models;
pub(crate) mod open_inference;
mod predictions;
pub(crate) mod selector;
pub(crate) mod streams;
