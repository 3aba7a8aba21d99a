//! The budget optimiser from outside.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::cast_precision_loss)]

#[path = "budget/cases.rs"]
mod cases;
#[path = "budget/properties.rs"]
mod properties;
#[path = "budget/shared.rs"]
mod shared;
