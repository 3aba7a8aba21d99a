//! Layers of the gRPC stack, one idea each. `stack` puts them in order.

pub(crate) mod deadline;
pub(crate) mod mend;
pub(crate) mod observe;
