//! What the `aibuyer-server` binary can do, one file a command.

pub mod inspect;
mod json_request;
pub mod migrate;
pub mod predict;
pub mod serve;
