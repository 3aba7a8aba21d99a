//! Which versions should serve, and where their files are.
//!
//! What lives here: [`Directory`], a plain folder of models as a registry; [`Watcher`], which notices when
//! the desired state changes. What deliberately does not: loading, sessions, phases. This crate and the
//! loader never meet: the server hands the [`DesiredState`](aibuyer_domain::model::DesiredState) that the
//! watcher reports to the loader, and the loader asks for files through the
//! [`ArtifactStore`](aibuyer_domain::model::ArtifactStore) trait.

mod directory;
mod watcher;

pub use directory::{Directory, Scan, ScanError};
pub use watcher::{Problems, Watcher};
