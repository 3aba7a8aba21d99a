//! Features of entities, from ClickHouse, at the speed of memory.
//!
//! A [`view`] says which columns of which table are features of what. A [`store`] fetches rows of many entities in one
//! query: [`ClickHouseStore`]. Before it stands a [`FeatureSource`], which is what requests ask: a [`CachedView`] of the
//! rows that are asked for, or a [`Mirror`] of all. [`sink`] writes the prediction log. [`schema`] makes and checks the
//! tables. [`analytics`] asks them what has happened. What a model does with the values is the domain's matter.

pub mod analytics;
mod cached;
mod call;
mod clickhouse;
mod connection;
mod counts;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod fake;
mod mirror;
pub mod schema;
pub mod sink;
mod source;
pub mod store;
pub mod view;

pub use self::{
    cached::{CacheOptions, CachedView},
    call::CallError,
    clickhouse::ClickHouseStore,
    connection::Connection,
    counts::SourceStats,
    mirror::{Mirror, MirrorOptions},
    source::{Answer, FeatureSource, Lookup},
};
