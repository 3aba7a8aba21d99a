//! The gRPC API: `.proto` files and the code generated from them.
//!
//! What lives here: message types, one of them written by hand for speed ([`mod@column`]), service traits and
//! clients, and the descriptor set that server reflection serves. What does not: validation, conversion and any
//! other behaviour; the server's services do that.

pub mod column;

/// The engine's own API, version 1.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod serving {
    /// CTR prediction: `CtrService`; which models serve: `ModelService`; where to put a budget:
    /// `BudgetService`; what is abnormal: `AnomalyService`; what has happened: `AnalyticsService`.
    pub mod v1 {
        tonic::include_proto!("aibuyer.serving.v1");
        pub use crate::column::{self, Column, StringListValues, StringValues};
    }
}

/// The Open Inference Protocol, version 2, as KServe, Triton and MLServer speak it.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// Encoded `FileDescriptorSet` of every service in this crate, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
