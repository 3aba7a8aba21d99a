//! On a real ClickHouse.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod engine;
mod launcher;
mod lookups;
mod mirror;
mod schema;
