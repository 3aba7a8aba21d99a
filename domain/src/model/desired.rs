//! What a registry wants served, and how its files are had.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Alias, ModelName, ServableId, Version};

/// What the registry wants served of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredModel {
    /// The versions to serve, each with a revision that changes when its files do.
    pub versions: BTreeMap<Version, Revision>,
    /// Older versions, to serve while no wanted one has ever been ready: the engine may have been restarted
    /// beside a broken newest version.
    pub fallback: BTreeMap<Version, Revision>,
    /// Aliases and the versions behind them. One that is not among `versions` has no files (yet): its alias
    /// stays where it was.
    pub aliases: BTreeMap<Alias, Version>,
    /// The version that answers a request that names none; like an alias.
    pub default: Option<Version>,
}

/// A fingerprint of a version's files: when it changes, a failed load is worth another try at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revision(pub u64);

/// What the registry says should serve: the input of the loader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// Every wanted model.
    pub models: BTreeMap<ModelName, DesiredModel>,
}

/// Brings a version's files to local disk. Blocking: called on loader threads only.
pub trait ArtifactStore: Send + Sync {
    /// The local directory that holds the version's files. `wanted` is asked now and then; once it says no, the
    /// fetch may end with any error.
    ///
    /// # Errors
    /// [`FetchError`] when the files cannot be had; it says why and what to do.
    fn fetch(&self, id: &ServableId, wanted: &(dyn Fn() -> bool + Sync)) -> Result<PathBuf, FetchError>;

    /// Lets go of local files that neither serve nor are likely to serve again. `in_use` must stay.
    fn collect(&self, in_use: &[ServableId]) {
        let _ = in_use;
    }
}

/// A version's files could not be brought to local disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {id}: {reason}")]
pub struct FetchError {
    /// The version that was asked for.
    pub id: ServableId,
    /// What went wrong, for a person to read.
    pub reason: String,
}
