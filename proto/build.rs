//! Generates the Rust types, clients and servers from the `.proto` files, without protoc.

use std::{env, error::Error, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 7] = [
    "aibuyer/serving/v1/analytics.proto",
    "aibuyer/serving/v1/anomaly.proto",
    "aibuyer/serving/v1/budget.proto",
    "aibuyer/serving/v1/ctr.proto",
    "aibuyer/serving/v1/forecast.proto",
    "aibuyer/serving/v1/model_service.proto",
    "inference/open_inference.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=aibuyer");
    println!("cargo:rerun-if-changed=google");
    println!("cargo:rerun-if-changed=inference");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Bytes are slices of the received message, not copies.
    let config = tonic_prost_build::configure().bytes(".");
    let config = config.extern_path(".google.rpc", "::tonic_types::pb");
    let by_hand = ["Column", "StringValues", "StringListValues"];
    let config = by_hand.iter().fold(config, |config, message| {
        config.extern_path(format!(".aibuyer.serving.v1.{message}"), format!("crate::column::{message}"))
    });
    config.compile_fds(descriptors)?;
    Ok(())
}
