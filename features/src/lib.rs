//! Features of entities, from ClickHouse, at the speed of memory.
//!
//! A [`view`] says which columns of which table are features of what. A [`store`] fetches rows of many entities in one
//! query: [`ClickHouseStore`]. [`CachedView`] stands before it and is what requests ask. [`sink`] writes the prediction
//! log. [`schema`] makes and checks the tables. [`analytics`] asks them what has happened. What a model does with the
//! values is the domain's matter.

pub mod analytics;
mod cached;
mod call;
mod clickhouse;
mod connection;
pub mod schema;
pub mod sink;
pub mod store;
pub mod view;

pub use self::{
    cached::{CacheOptions, CachedView, Lookup},
    call::CallError,
    clickhouse::ClickHouseStore,
    connection::Connection,
};
