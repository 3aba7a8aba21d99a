//! Which servable answers which request: the one place where requests and model versions meet.
//!
//! A map is a value that never changes; the manager publishes a new one by one atomic swap. A request that
//! has resolved its servable keeps it, so it sees one version from encoding to reply.

use std::{collections::BTreeMap, sync::Arc};

use aibuyer_domain::{
    ErrorKind,
    model::{Alias, ModelName, Pick, Version},
};
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    phase::{Failure, Phase},
    policy::Routes,
    servable::Servable,
};

/// All models that the engine knows.
#[derive(Debug, Clone, Default)]
pub struct ServingMap {
    /// By name.
    pub models: BTreeMap<ModelName, ModelEntry>,
}

/// One model.
#[derive(Debug, Clone, Default)]
pub struct ModelEntry {
    /// Every version that is wanted or still there.
    pub versions: BTreeMap<Version, VersionEntry>,
    /// Which of them answer.
    pub routes: Routes,
    /// Where the registry wants the routes, and those that it has lost: they follow once a version is ready.
    pub wanted: Routes,
    /// Aliases that answer although the registry has them no more.
    pub lost: Vec<Alias>,
}

/// One version.
#[derive(Debug, Clone)]
pub struct VersionEntry {
    /// Where it stands.
    pub phase: Phase,
    /// Present exactly in phase Ready.
    pub servable: Option<Servable>,
    /// Why new files of this version, which serves, were refused.
    pub refused: Option<Failure>,
}

/// No servable for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such model.
    #[error("no model {name:?} here; there are: {known}")]
    UnknownModel {
        /// As asked for.
        name: String,
        /// The models that exist, separated by commas.
        known: String,
    },
    /// The model has no such alias or version.
    #[error("model {name} has no {pick}; it has {known}")]
    UnknownPick {
        /// The model.
        name: ModelName,
        /// As asked for.
        pick: String,
        /// The aliases or versions that exist.
        known: String,
    },
    /// The model exists but cannot answer yet.
    #[error("model {name} is not ready: {state}")]
    NotReady {
        /// The model.
        name: ModelName,
        /// What became of the version that was asked for.
        state: String,
    },
}

impl ResolveError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. } | Self::UnknownPick { .. } => ErrorKind::NotFound,
            Self::NotReady { .. } => ErrorKind::NotReady,
        }
    }
}

impl ServingMap {
    /// A model by its name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelEntry> {
        self.entry(name).map(|(_, model)| model)
    }

    fn entry(&self, name: &str) -> Option<(&ModelName, &ModelEntry)> {
        self.models.get_key_value(name)
    }

    /// The servable that answers for `name` and `pick`.
    ///
    /// # Errors
    /// [`ResolveError`] says what there is instead.
    pub fn resolve(&self, name: &str, pick: &Pick) -> Result<Servable, ResolveError> {
        let Some((name, model)) = self.entry(name) else {
            return Err(ResolveError::UnknownModel { name: name.to_owned(), known: list(self.models.keys()) });
        };
        let routes = &model.routes;
        let unknown = |known: String| ResolveError::UnknownPick { name: name.clone(), pick: pick.to_string(), known };
        let version = match pick {
            Pick::Default => routes.default,
            Pick::Version(version) if model.versions.contains_key(version) => Some(*version),
            Pick::Version(_) => return Err(unknown(format!("versions {}", list(model.versions.keys())))),
            Pick::Alias(alias) => routes.aliases.get(alias).copied(),
        };
        let wanted = match pick {
            Pick::Default => model.wanted.default.is_some(),
            Pick::Alias(alias) => model.wanted.aliases.contains_key(alias),
            Pick::Version(_) => true,
        };
        match version.and_then(|v| model.versions.get(&v)?.servable.clone()) {
            Some(servable) => Ok(servable),
            None if wanted => Err(ResolveError::NotReady { name: name.clone(), state: model.state(pick) }),
            None => Err(unknown(aliases(&model.wanted))),
        }
    }
}

impl ModelEntry {
    /// Whether the model can answer a request that names no version; where the registry wants no such
    /// default, whether any alias can answer.
    #[must_use]
    pub fn ready(&self) -> bool {
        match self.wanted.default {
            Some(_) => self.routes.default.is_some(),
            None => !self.routes.aliases.is_empty(),
        }
    }

    /// Whether every version has been tried.
    #[must_use]
    pub fn settled(&self) -> bool {
        !self.versions.values().any(|v| matches!(v.phase, Phase::Pending | Phase::Loading))
    }

    /// Why a pick has no answer: what became of the version that it leads to.
    #[must_use]
    pub fn state(&self, pick: &Pick) -> String {
        let version = match pick {
            Pick::Default => self.wanted.default,
            Pick::Alias(alias) => self.wanted.aliases.get(alias).copied(),
            Pick::Version(version) => Some(*version),
        };
        let Some(version) = version else { return format!("it has no {pick}") };
        match self.versions.get(&version).map(|entry| &entry.phase) {
            None => format!("{pick} leads to version {version}, which has no files"),
            Some(Phase::Failed(Failure { check, reason, .. })) => {
                format!("version {version} failed the {check} check: {reason}")
            }
            Some(phase) => format!("version {version} is {phase}"),
        }
    }
}

fn aliases(routes: &Routes) -> String {
    if routes.aliases.is_empty() { "no aliases".to_owned() } else { format!("aliases {}", list(routes.aliases.keys())) }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|i| i.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// The current map, and news of its changes.
#[derive(Debug, Clone)]
pub struct Serving {
    current: Arc<ArcSwap<ServingMap>>,
    changed: watch::Sender<()>,
}

impl Default for Serving {
    fn default() -> Self {
        Self { current: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Serving {
    /// The map as it is now.
    #[must_use]
    pub fn load(&self) -> arc_swap::Guard<Arc<ServingMap>> {
        self.current.load()
    }

    /// The map as it is now, to be kept for longer than a moment.
    #[must_use]
    pub fn load_full(&self) -> Arc<ServingMap> {
        self.current.load_full()
    }

    /// A receiver that is told of each new map.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn publish(&self, map: ServingMap) {
        self.current.store(Arc::new(map));
        self.changed.send_replace(());
    }
}
