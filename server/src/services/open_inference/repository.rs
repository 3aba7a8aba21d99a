//! The model repository extension: what is there, and loading what failed.

use std::collections::HashMap;

use aibuyer_loader::{Phase, ServingMap};
use aibuyer_proto::inference::{self as pb, repository_index_response::ModelIndex};
use tonic::Status;

use crate::status;

/// Every version, or the ready ones.
pub(super) fn index(map: &ServingMap, ready: bool) -> pb::RepositoryIndexResponse {
    let mut models = Vec::new();
    for (name, model) in &map.models {
        for (version, entry) in model.versions.iter().filter(|(_, entry)| !ready || entry.phase == Phase::Ready) {
            let (state, reason) = state(&entry.phase);
            let (name, version) = (name.to_string(), version.to_string());
            models.push(ModelIndex { name, version, state: state.to_owned(), reason });
        }
    }
    pb::RepositoryIndexResponse { models }
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
