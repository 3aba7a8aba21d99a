//! Which versions should serve, and where their files are.
//!
//! What lives here: [`Directory`], a plain folder of models as a registry; [`Mlflow`], an MLflow server as one, with a
//! store of artifacts on disk; [`Watcher`], which notices when the desired state changes; [`Webhook`], which tells
//! MLflow's deliveries from others'. What deliberately does not: loading, sessions, phases, async. This crate and the
//! loader never meet: the server hands the [`DesiredState`](aibuyer_domain::model::DesiredState) that the watcher
//! reports to the loader, and the loader asks for files through the
//! [`ArtifactStore`](aibuyer_domain::model::ArtifactStore) trait.

mod directory;
mod mlflow;
mod source;
mod store;
mod watcher;
pub mod webhook;

pub use directory::Directory;
pub use mlflow::{ConnectError, Connection, Credentials, Mlflow, MlflowOptions, Models};
pub use source::{Registry, Scan, ScanError};
pub use store::StoreOptions;
pub use watcher::{Problems, Watcher};
pub use webhook::Webhook;
