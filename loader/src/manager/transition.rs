//! What the manager tells of its work: who answers what since when, and what was refused.

use std::time::{Duration, SystemTime};

use aibuyer_domain::model::{Alias, ModelName, ServableId, Version};

use crate::policy::Routes;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: SystemTime,
    /// Of which model.
    pub model: ModelName,
    /// Of which version.
    pub version: Version,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It passed every check and can answer.
    Ready {
        /// How long its load took, with the fetch of its files.
        took: Duration,
    },
    /// From now on it answers for an alias, or for requests that name none.
    Serves {
        /// The alias; `None` for requests that name neither alias nor version.
        alias: Option<Alias>,
        /// The version that answered before.
        before: Option<Version>,
    },
    /// The registry had this alias no more when the engine started, so it answers for it no more.
    Forgotten {
        /// The alias; `None` for requests that name neither alias nor version.
        alias: Option<Alias>,
    },
    /// It failed a check; what serves keeps serving.
    Refused {
        /// The check.
        check: &'static str,
        /// Why, for a person to read.
        reason: String,
        /// Loads that have failed in a row.
        attempts: u32,
    },
    /// Its last request is answered and its memory is freed.
    Retired,
}

/// Routes that are there no more.
pub(super) fn forgotten(name: &ModelName, before: &Routes, after: &Routes) -> Vec<(ServableId, Change)> {
    let aliases = before.aliases.iter().map(|(alias, version)| (Some(alias.clone()), *version));
    let default = before.default.map(|version| (None, version));
    let gone = |alias: &Option<Alias>| match alias {
        Some(alias) => !after.aliases.contains_key(alias),
        None => after.default.is_none(),
    };
    let routes = default.into_iter().chain(aliases).filter(|(alias, _)| gone(alias));
    routes.map(|(alias, version)| (ServableId { name: name.clone(), version }, Change::Forgotten { alias })).collect()
}

/// Routes that lead elsewhere than before.
pub(super) fn moves(name: &ModelName, before: &Routes, after: &Routes) -> Vec<(ServableId, Change)> {
    let aliases = after.aliases.iter().map(|(a, v)| (Some(a.clone()), *v, before.aliases.get(a).copied()));
    let default = after.default.map(|v| (None, v, before.default));
    default
        .into_iter()
        .chain(aliases)
        .filter(|(_, version, before)| *before != Some(*version))
        .map(|(alias, version, before)| (ServableId { name: name.clone(), version }, Change::Serves { alias, before }))
        .collect()
}
