//! The engine's server: configuration, gRPC services, the stack they stand in, health, metrics, pages, and
//! the commands of the `aibuyer-server` binary.
//!
//! What deliberately does not live here: encoding and interval maths (`aibuyer-domain`), loading and batching
//! (`aibuyer-loader`), what should serve (`aibuyer-registry`). [`app`] wires those together; a request goes
//! through `stack` to a file in `services`; only `status` knows gRPC codes.

mod admin;
pub mod app;
mod clickhouse;
pub mod commands;
pub mod config;
mod console;
mod features;
pub mod lanes;
mod layers;
mod link;
mod metrics;
pub mod prediction_log;
mod promotions;
mod readiness;
mod registry;
mod reload;
mod services;
mod shards;
mod stack;
mod status;
mod webhooks;
