//! The model repository extension: what is there, and loading what failed.

use std::collections::HashMap;

use aibuyer_loader::{Phase, ServingMap};
use aibuyer_proto::inference::{self as pb, repository_index_response::ModelIndex};
use tonic::Status;

use crate::status;

/// Every version, or the ready ones.
pub(super) fn index(map: &ServingMap, ready: bool) -> pb::RepositoryIndexResponse {
    let versions = map.models.iter().flat_map(|(name, model)| model.versions.iter().map(move |v| (name, v)));
    let models = versions.filter(|(_, (_, entry))| !ready || entry.phase == Phase::Ready);
    let entry = |(name, (version, entry)): (&_, (&_, &aibuyer_loader::serving_map::VersionEntry))| {
        let (state, reason) = state(&entry.phase);
        ModelIndex {
            name: ToString::to_string(name),
            version: ToString::to_string(version),
            state: state.to_owned(),
            reason,
        }
    };
    pb::RepositoryIndexResponse { models: models.map(entry).collect() }
}

/// A phase in Triton's words.
fn state(phase: &Phase) -> (&'static str, String) {
    match phase {
        Phase::Pending | Phase::Loading => ("LOADING", String::new()),
        Phase::Ready => ("READY", String::new()),
        Phase::Draining => ("UNLOADING", String::new()),
        Phase::Failed(failure) => ("UNAVAILABLE", format!("{}: {}", failure.check, failure.reason)),
    }
}

/// There is one repository, and it has no name.
pub(super) fn the_only(repository: &str) -> Result<(), Status> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(status::invalid_field("repository_name", "must be empty: there is one repository, the folder registry.path"))
}

/// Configuration and files that a load request would bring along.
pub(super) fn no_parameters(parameters: &HashMap<String, pb::ModelRepositoryParameter>) -> Result<(), Status> {
    let Some(name) = parameters.keys().min() else { return Ok(()) };
    let reason = "is not supported: files and configuration are the registry's; put a version folder there";
    Err(status::invalid_field(&format!("parameters[{name:?}]"), reason))
}
