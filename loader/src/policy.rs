//! What to do next about one model: pure functions of what is wanted and what is there.
//!
//! Availability comes first (as in TensorFlow Serving's availability-preserving policy): a version in use is
//! let go only after what replaces it is ready, and nothing is let go because the registry lost sight of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aibuyer_domain::model::{Alias, DesiredModel, Revision, Version};

use crate::phase::Phase;

/// Versions of a model that nothing asks for any more and that are kept ready all the same, so that a rollback is
/// instant. More would be memory for nothing.
const MOST_WARM: usize = 2;

/// Where one version stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its phase.
    pub phase: Phase,
    /// The revision of its files that was last tried.
    pub revision: Revision,
    /// Since when it is ready for nobody: no route leads to it and the registry does not want it.
    pub unused_since: Option<Instant>,
    /// When its new files, which were refused beside the ones that serve, are tried again.
    pub reload_at: Option<Instant>,
}

impl Standing {
    /// Not yet tried.
    #[must_use]
    pub fn pending() -> Self {
        Self { phase: Phase::Pending, revision: Revision::default(), unused_since: None, reload_at: None }
    }
}

/// Which versions answer which requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// The version for a request that names none.
    pub default: Option<Version>,
    /// The version behind each alias.
    pub aliases: BTreeMap<Alias, Version>,
}

impl Routes {
    /// Whether any route leads to `version`.
    #[must_use]
    pub fn lead_to(&self, version: Version) -> bool {
        self.versions().any(|v| v == version)
    }

    /// Where the routes lead, the default first.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        self.default.into_iter().chain(self.aliases.values().copied())
    }

    /// Takes over every route of `newer`; those that it does not have stay.
    pub fn overlay(&mut self, newer: &Self) {
        self.default = newer.default.or(self.default);
        self.aliases.extend(newer.aliases.iter().map(|(alias, version)| (alias.clone(), *version)));
    }
}

/// The one thing to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Load this version; beside the one that serves, where there is one of another revision.
    Load(Version, Revision),
    /// Give up the load of this version: nobody wants it any more.
    Cancel(Version),
    /// Take this version out of service.
    Drain(Version),
}

/// Which loads may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loads {
    /// None: as many run as may.
    None,
    /// Those of files that have not been tried: failures that are tried again must not take the last place.
    FirstTries,
    /// Any.
    Any,
}

/// Whether a version may take over from another, by candidate and incumbent; what is not in it has not been compared.
pub type Verdicts = BTreeMap<(Version, Version), bool>;

/// One model as it is seen when something is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// What the registry wants.
    pub desired: &'a DesiredModel,
    /// What is there.
    pub standing: &'a BTreeMap<Version, Standing>,
    /// Where each route led last, in this life of the engine or the one before.
    pub last: &'a Routes,
    /// Who may take over from whom.
    pub verdicts: &'a Verdicts,
}

impl<'a> Snapshot<'a> {
    /// Routes as they should be now: each goes where the registry wants it once that version is ready, and until
    /// then, or where that one may not take over, stays where it was. One that the registry has lost stays too.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let settle = |wanted, last| self.settle(wanted, last);
        let stand_in = || self.desired.fallback.keys().rev().copied().find(|v| self.ready(*v));
        let DesiredModel { aliases, default, .. } = self.desired;
        let names: BTreeSet<&Alias> = aliases.keys().chain(self.last.aliases.keys()).collect();
        Routes {
            default: settle(*default, self.last.default).or_else(stand_in),
            aliases: names
                .into_iter()
                .filter_map(|alias| {
                    let version = settle(aliases.get(alias).copied(), self.last.aliases.get(alias).copied())?;
                    Some((alias.clone(), version))
                })
                .collect(),
        }
    }

    /// Where the registry wants each route and where it led last.
    pub fn wishes(self) -> impl Iterator<Item = (Option<Version>, Option<Version>)> + use<'a> {
        let DesiredModel { aliases, default, .. } = self.desired;
        let names: BTreeSet<&Alias> = aliases.keys().chain(self.last.aliases.keys()).collect();
        let of_alias = move |alias| (aliases.get(alias).copied(), self.last.aliases.get(alias).copied());
        std::iter::once((*default, self.last.default)).chain(names.into_iter().map(of_alias))
    }

    /// Where a route leads. After a restart it waits for the version that answered last, which is on the disk, so that
    /// another one can be held against it.
    fn settle(&self, wanted: Option<Version>, last: Option<Version>) -> Option<Version> {
        let candidate = wanted.filter(|version| self.ready(*version));
        let Some(last) = last.filter(|last| Some(*last) != wanted) else { return candidate };
        let Some(candidate) = candidate else { return Some(last).filter(|last| self.ready(*last)) };
        match self.standing.get(&last).map(|standing| &standing.phase) {
            Some(Phase::Ready) if self.verdicts.get(&(candidate, last)) == Some(&false) => Some(last),
            None | Some(Phase::Pending | Phase::Loading) => None,
            Some(Phase::Ready | Phase::Draining | Phase::Failed(_)) => Some(candidate),
        }
    }

    /// The next action, if any; the default version loads first.
    #[must_use]
    pub fn next_action(&self, now: Instant, keep_warm: Duration, loads: Loads) -> Option<Action> {
        let forgotten = |(version, standing): (&Version, &Standing)| {
            (standing.phase == Phase::Loading && !self.keeps(*version)).then_some(Action::Cancel(*version))
        };
        if let Some(cancel) = self.standing.iter().find_map(forgotten) {
            return Some(cancel);
        }
        // Whether it is to be loaded, and in what case.
        let due = |(version, revision): &(Version, Revision)| {
            let Some(s) = self.standing.get(version) else { return Some(Loads::FirstTries) };
            match &s.phase {
                Phase::Pending => Some(Loads::FirstTries),
                Phase::Failed(_) | Phase::Ready if s.revision != *revision => Some(Loads::FirstTries),
                Phase::Failed(failure) => (failure.retry_at <= now).then_some(Loads::Any),
                Phase::Ready => s.reload_at.filter(|at| *at <= now).map(|_| Loads::Any),
                Phase::Loading | Phase::Draining => None,
            }
        };
        let mut needed = self.needed().into_iter();
        if let Some((version, revision)) = needed.find(|version| due(version).is_some_and(|least| least <= loads)) {
            return Some(Action::Load(version, revision));
        }
        let mut warm = self.unused();
        let newest = warm.split_off(warm.len().saturating_sub(MOST_WARM));
        let over = newest.into_iter().filter(|(since, _)| *since + keep_warm <= now);
        warm.into_iter().chain(over).next().map(|(_, version)| Action::Drain(version))
    }

    /// When something is due that no news will tell of: another try, or the end of a warm version's time.
    /// What would not be done then is never due: waking for it would be waking for ever.
    #[must_use]
    pub fn next_wake(&self, keep_warm: Duration, loads: Loads) -> Option<Instant> {
        let needed = if loads == Loads::Any { self.needed() } else { Vec::new() };
        let retries = needed.into_iter().filter_map(|(version, _)| {
            let standing = self.standing.get(&version)?;
            match &standing.phase {
                Phase::Failed(failure) => Some(failure.retry_at),
                _ => standing.reload_at,
            }
        });
        retries.chain(self.unused().into_iter().map(|(since, _)| since + keep_warm)).min()
    }

    /// Whether a version may be wanted: by the registry, or to stand in.
    #[must_use]
    pub fn keeps(&self, version: Version) -> bool {
        self.desired.versions.contains_key(&version)
            || self.desired.fallback.contains_key(&version)
            || self.last.lead_to(version)
    }

    fn ready(&self, version: Version) -> bool {
        self.standing.get(&version).is_some_and(|s| s.phase == Phase::Ready)
    }

    /// What should be ready as things stand, the most urgent first.
    fn needed(&self) -> Vec<(Version, Revision)> {
        let DesiredModel { versions, fallback, default, .. } = self.desired;
        let mut needed: Vec<(Version, Revision)> = Vec::new();
        let wanted = default.iter().chain(versions.keys());
        needed.extend(wanted.filter_map(|version| Some((*version, *versions.get(version)?))));
        // Until the wanted version can answer, the one that answered last does. After a restart it is on the disk,
        // while the wanted one may take its time to arrive, or never pass.
        let known = |version: Version| {
            let tried = self.standing.get(&version).map(|s| s.revision);
            (version, tried.or(fallback.get(&version).copied()).unwrap_or_default())
        };
        let stand_in = |(wanted, last): (Option<Version>, Option<Version>)| {
            let settled = wanted.is_some() && self.settle(wanted, last) == wanted;
            last.filter(|last| !settled && !versions.contains_key(last))
        };
        needed.extend(self.wishes().filter_map(stand_in).map(known));
        // Nothing answers and every wanted version has been tried: the greatest older one that loads.
        if !self.standing.values().any(|s| matches!(s.phase, Phase::Ready | Phase::Loading)) {
            needed.extend(fallback.iter().rev().map(|(version, revision)| (*version, *revision)));
        }
        needed
    }

    /// Ready versions that nothing asks for, the longest unused first.
    fn unused(&self) -> Vec<(Instant, Version)> {
        let ready = self.standing.iter().filter(|(_, s)| s.phase == Phase::Ready);
        let mut unused: Vec<_> = ready.filter_map(|(version, s)| Some((s.unused_since?, *version))).collect();
        unused.sort_unstable();
        unused
    }
}

/// When a version that has failed `attempts` times in a row is tried again: 1 s, doubled each time, at most
/// 5 minutes.
#[must_use]
pub fn backoff(attempts: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    Duration::from_secs(1).saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
