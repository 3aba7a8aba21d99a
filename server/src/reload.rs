//! Looking at the registry and trying a model again because somebody asks, not because it is time.

use std::sync::Arc;

use aibuyer_domain::{
    ErrorKind,
    model::{ModelName, Pick},
};
use aibuyer_loader::{Manager, Phase, ResolveError, ServingMap};
use aibuyer_registry::{Scan, Watcher};
use tokio::sync::oneshot;

use crate::readiness::Readiness;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The registry cannot be read.
    #[error("{0}")]
    Registry(String),
    /// The registry does not have the model, or nothing of it that can be understood.
    #[error("the registry has no model {name:?}{problems}")]
    Absent {
        /// As asked for.
        name: String,
        /// What the registry cannot understand, if anything.
        problems: String,
    },
    /// A version failed.
    #[error(transparent)]
    Failed(ResolveError),
    /// The engine stops.
    #[error("the server is stopping")]
    Stopping,
}

impl ReloadError {
    /// What the failure means to the caller.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Failed(error) => error.kind(),
            Self::Registry(_) | Self::Stopping => ErrorKind::NotReady,
        }
    }
}

/// Reloads models on request.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) manager: Arc<Manager>,
    pub(crate) readiness: Readiness,
}

impl Reload {
    /// Looks at the registry, tries what failed of the model again, and waits until every version that the
    /// registry wants of it is ready or has failed. Dropping the future changes nothing: the load goes on.
    pub(crate) async fn model(&self, name: &str) -> Result<(), ReloadError> {
        tokio::select! {
            result = self.settle(name) => result,
            () = self.readiness.stopped() => Err(ReloadError::Stopping),
        }
    }

    async fn settle(&self, name: &str) -> Result<(), ReloadError> {
        let name = self.look(name).await?;
        let (done, tried) = oneshot::channel::<()>();
        self.manager.retry(name.clone(), move || drop(done));
        // Closed, never sent to.
        let _ = tried.await;
        let serving = self.manager.serving();
        let mut changed = serving.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(result) = outcome(&serving.load(), &name) {
                return result.map_err(ReloadError::Failed);
            }
            if changed.changed().await.is_err() {
                return Err(ReloadError::Stopping);
            }
        }
    }

    /// Makes the loader know what the registry holds now; the model's name if it is there.
    async fn look(&self, name: &str) -> Result<ModelName, ReloadError> {
        let (found, seen) = oneshot::channel();
        let wanted = name.to_owned();
        self.watcher.look(move |scan| {
            // The caller may have left.
            let _ = found.send(find(scan, wanted));
        });
        seen.await.unwrap_or(Err(ReloadError::Stopping))
    }
}

fn find(scan: Result<&Scan, &str>, name: String) -> Result<ModelName, ReloadError> {
    let scan = scan.map_err(|error| ReloadError::Registry(error.to_owned()))?;
    if let Some((name, _)) = scan.desired.models.get_key_value(name.as_str()) {
        return Ok(name.clone());
    }
    let problems = if scan.problems.is_empty() { String::new() } else { format!("; {}", scan.problems.join("; ")) };
    Err(ReloadError::Absent { name, problems })
}

/// What became of the versions that the registry wants of a model; `None` while one of them is on its way.
fn outcome(map: &ServingMap, name: &ModelName) -> Option<Result<(), ResolveError>> {
    let Some(model) = map.models.get(name) else {
        // Gone again since the look.
        return Some(map.resolve(name.as_str(), &Pick::Default).map(drop));
    };
    let default = model.wanted.default.map(|version| (Pick::Default, version));
    let aliases = model.wanted.aliases.iter().map(|(alias, version)| (Pick::Alias(alias.clone()), *version));
    let mut failed = None;
    for (pick, version) in default.into_iter().chain(aliases) {
        match model.versions.get(&version).map(|entry| &entry.phase) {
            Some(Phase::Ready) => {}
            Some(Phase::Pending | Phase::Loading | Phase::Draining) => return None,
            Some(Phase::Failed(_)) | None => {
                let error = || ResolveError::NotReady { name: name.clone(), state: model.state(&pick) };
                failed.get_or_insert_with(error);
            }
        }
    }
    Some(failed.map_or(Ok(()), Err))
}
