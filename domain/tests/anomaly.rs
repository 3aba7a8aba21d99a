//! The anomaly detector from outside.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub
)]

#[path = "anomaly/nab.rs"]
mod nab;
#[path = "anomaly/stream.rs"]
mod stream;
