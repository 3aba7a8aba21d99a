//! Features of entities, from ClickHouse.
//!
//! [`schema`] makes and checks the tables. What a model does with the values is the domain's matter.

mod call;
mod connection;
pub mod schema;

pub use call::CallError;
pub use connection::Connection;
