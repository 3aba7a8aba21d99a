//! On a real ClickHouse.

#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

mod engine;
mod launcher;
