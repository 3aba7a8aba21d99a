//! Models as the whole engine speaks of them: names, versions, aliases, signatures, and the desired state
//! that a registry hands to the loader. Files, sessions and phases live elsewhere.

mod desired;
pub(crate) mod digests;
mod name;
mod signature;

pub use desired::{ArtifactStore, DesiredModel, DesiredState, FetchError, Revision};
pub use name::{Alias, ModelName, NameError, Pick, ServableId, Version};
pub use signature::{Signature, TensorInfo};
