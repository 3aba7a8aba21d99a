//! The real server over real gRPC, with the real ONNX Runtime and the demo model.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod analytics;
mod anomaly;
mod anomaly_by_model;
mod bad_input;
mod binary;
mod budget;
#[path = "../../../features/tests/it/engine.rs"]
mod clickhouse;
mod connections;
mod encoded;
mod forecast;
mod forecast_onnx;
mod harness;
mod health;
mod house;
mod load;
mod migrate;
mod open_inference;
mod pages;
mod plain_models;
mod predict;
mod prediction_log;
mod promotions;
mod stored_features;
mod stream;
mod triton;
mod versions;
