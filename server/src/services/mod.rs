//! gRPC services, one file each: decode, validate, ask a servable, reply.

pub(crate) mod columns;
pub(crate) mod ctr;
pub(crate) mod health;
mod predictions;
