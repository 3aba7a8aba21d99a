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
}

impl Standing {
    /// Not yet tried.
    #[must_use]
    pub fn pending() -> Self {
        Self { phase: Phase::Pending, revision: Revision::default(), unused_since: None }
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

/// One model as it is seen when something is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// What the registry wants.
    pub desired: &'a DesiredModel,
    /// What is there.
    pub standing: &'a BTreeMap<Version, Standing>,
    /// Where each route led last, in this life of the engine or the one before.
    pub last: &'a Routes,
}

impl Snapshot<'_> {
    /// Routes as they should be now: each goes where the registry wants it once that version is ready, and until
    /// then stays where it was. One that the registry has lost stays too.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let settle = |wanted: Option<Version>, last: Option<Version>| {
            wanted.filter(|v| self.ready(*v)).or(last.filter(|v| self.ready(*v)))
        };
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

    /// The next action, if any; the default version loads first.
    #[must_use]
    pub fn next_action(&self, now: Instant, keep_warm: Duration) -> Option<Action> {
        let forgotten = |(version, standing): (&Version, &Standing)| {
            (standing.phase == Phase::Loading && !self.keeps(*version)).then_some(Action::Cancel(*version))
        };
        if let Some(cancel) = self.standing.iter().find_map(forgotten) {
            return Some(cancel);
        }
        let due = |(version, revision): &(Version, Revision)| match self.standing.get(version) {
            None => true,
            Some(s) => match &s.phase {
                Phase::Pending => true,
                Phase::Failed(failure) => failure.retry_at <= now || s.revision != *revision,
                Phase::Ready => s.revision != *revision,
                Phase::Loading | Phase::Draining => false,
            },
        };
        if let Some((version, revision)) = self.needed().into_iter().find(due) {
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
    pub fn next_wake(&self, keep_warm: Duration) -> Option<Instant> {
        let retries = self.needed().into_iter().filter_map(|(version, _)| match &self.standing.get(&version)?.phase {
            Phase::Failed(failure) => Some(failure.retry_at),
            _ => None,
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
        let DesiredModel { versions, fallback, aliases, default } = self.desired;
        let mut needed: Vec<(Version, Revision)> = Vec::new();
        let wanted = default.iter().chain(versions.keys());
        needed.extend(wanted.filter_map(|version| Some((*version, *versions.get(version)?))));
        // Until the wanted version can answer, the one that answered last does. After a restart it is on the disk,
        // while the wanted one may take its time to arrive, or never pass.
        let known = |version: Version| {
            let tried = self.standing.get(&version).map(|s| s.revision);
            (version, tried.or(fallback.get(&version).copied()).unwrap_or_default())
        };
        let last = self.last.default.map(|last| (*default, last));
        let last = last.into_iter().chain(self.last.aliases.iter().map(|(a, last)| (aliases.get(a).copied(), *last)));
        let stand_ins =
            last.filter(|(wanted, last)| !versions.contains_key(last) && wanted.is_none_or(|v| !self.ready(v)));
        needed.extend(stand_ins.map(|(_, last)| known(last)));
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
mod tests {
    use super::*;
    use crate::phase::Failure;
    use Phase::{Draining, Loading, Ready};

    const KEEP_WARM: Duration = Duration::from_secs(600);

    fn v(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    fn desired(versions: &[u64], aliases: &[(&str, u64)], default: Option<u64>) -> DesiredModel {
        DesiredModel {
            versions: versions.iter().map(|n| (v(*n), Revision(1))).collect(),
            fallback: BTreeMap::new(),
            aliases: aliases.iter().map(|(a, n)| (a.parse().unwrap(), v(*n))).collect(),
            default: default.map(v),
        }
    }

    fn to(default: u64, aliases: &[(&str, u64)]) -> Routes {
        Routes { default: Some(v(default)), aliases: desired(&[], aliases, None).aliases }
    }

    fn failed(retry_at: Instant) -> Phase {
        Phase::Failed(Failure { check: "golden", reason: String::new(), attempts: 1, retry_at })
    }

    /// Versions in these phases; ready ones that nothing asks for are unused since `unused`.
    fn standing(desired: &DesiredModel, last: &Routes, phases: &[(u64, Phase)], unused: Instant) -> Map {
        let stand = |phase: &Phase| Standing { phase: phase.clone(), revision: Revision(1), unused_since: None };
        let mut standing: Map = phases.iter().map(|(n, p)| (v(*n), stand(p))).collect();
        let routes = Snapshot { desired, standing: &standing, last }.routes();
        for (version, standing) in &mut standing {
            let used = desired.versions.contains_key(version) || routes.lead_to(*version);
            standing.unused_since = (standing.phase == Ready && !used).then_some(unused);
        }
        standing
    }

    type Map = BTreeMap<Version, Standing>;

    fn load(number: u64) -> Option<Action> {
        Some(Action::Load(v(number), Revision(1)))
    }

    #[test]
    fn one_action_at_a_time() {
        let now = Instant::now();
        let (later, earlier) = (now + Duration::from_secs(1), now - Duration::from_secs(1));
        let (just, long) = (now, now - KEEP_WARM);
        let latest2 = desired(&[2], &[], Some(2));
        let nothing = DesiredModel::default();
        let both = desired(&[1, 2], &[("champion", 2), ("challenger", 1)], Some(2));
        type Case<'a> = (&'a str, &'a DesiredModel, Vec<(u64, Phase)>, Instant, Option<Action>);
        let cases: Vec<Case> = vec![
            ("the first version loads", &latest2, vec![], just, load(2)),
            ("the default loads first", &both, vec![], just, load(2)),
            ("then the others", &both, vec![(2, Ready)], just, load(1)),
            ("a load is not begun twice", &latest2, vec![(2, Loading)], just, None),
            ("the old one stays until the new one is ready", &latest2, vec![(1, Ready), (2, Loading)], long, None),
            ("a bad version never replaces a good one", &latest2, vec![(1, Ready), (2, failed(later))], long, None),
            ("then it is kept warm", &latest2, vec![(1, Ready), (2, Ready)], just, None),
            ("for its time", &latest2, vec![(1, Ready), (2, Ready)], long, Some(Action::Drain(v(1)))),
            ("and is left to finish", &latest2, vec![(1, Draining), (2, Ready)], long, None),
            ("a failed one waits", &latest2, vec![(2, failed(later))], just, None),
            ("and is tried again", &latest2, vec![(2, failed(earlier))], just, load(2)),
            ("the newer one wins", &latest2, vec![(1, Ready), (3, Loading)], just, Some(Action::Cancel(v(3)))),
            ("a registry that forgot everything changes nothing", &nothing, vec![(1, Ready)], long, None),
        ];
        for (name, desired, phases, unused, expect) in cases {
            // With version 1 as the last to answer, but never to be loaded for it.
            let last = if phases.iter().any(|(n, _)| *n == 1) { to(1, &[]) } else { Routes::default() };
            let standing = standing(desired, &last, &phases, unused);
            let snapshot = Snapshot { desired, standing: &standing, last: &last };
            assert_eq!(snapshot.next_action(now, KEEP_WARM), expect, "{name}");
        }
    }

    #[test]
    fn only_the_last_few_unused_versions_stay_warm() {
        let now = Instant::now();
        let wanted = desired(&[5], &[], Some(5));
        let last = to(5, &[]);
        let phases = [1, 2, 3, 4, 5].map(|n| (n, Ready));
        let mut standing = standing(&wanted, &last, &phases, now);
        for (age, version) in [(40, 3), (30, 1), (20, 4), (10, 2)] {
            standing.get_mut(&v(version)).unwrap().unused_since = Some(now - Duration::from_secs(age));
        }
        let mut drained = Vec::new();
        while let Some(Action::Drain(version)) =
            (Snapshot { desired: &wanted, standing: &standing, last: &last }).next_action(now, KEEP_WARM)
        {
            standing.remove(&version);
            drained.push(version.get());
        }
        assert_eq!(drained, [3, 1]);
        let wake = Snapshot { desired: &wanted, standing: &standing, last: &last }.next_wake(KEEP_WARM);
        assert_eq!(wake, Some(now - Duration::from_secs(20) + KEEP_WARM), "version 4 is next");
    }

    #[test]
    fn an_older_version_stands_in_until_a_wanted_one_is_ready() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let wanted =
            DesiredModel { fallback: [(v(1), Revision(1)), (v(2), Revision(1))].into(), ..desired(&[3], &[], Some(3)) };
        let act = |phases: &[(u64, Phase)]| {
            let last = Routes::default();
            let standing = standing(&wanted, &last, phases, now - KEEP_WARM);
            let snapshot = Snapshot { desired: &wanted, standing: &standing, last: &last };
            (snapshot.routes().default, snapshot.next_action(now, KEEP_WARM))
        };
        assert_eq!(act(&[]), (None, load(3)));
        assert_eq!(act(&[(3, failed(later))]), (None, load(2)));
        assert_eq!(act(&[(2, failed(later)), (3, failed(later))]), (None, load(1)));
        assert_eq!(act(&[(2, Ready), (3, failed(later))]), (Some(v(2)), None));
        assert_eq!(act(&[(2, Ready), (3, Ready)]), (Some(v(3)), Some(Action::Drain(v(2)))));
    }

    #[test]
    fn after_a_restart_the_last_good_version_stands_in_for_a_broken_one_and_for_a_silent_registry() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let last = to(2, &[("champion", 2), ("old", 1)]);
        let moved = desired(&[3], &[("champion", 3)], Some(3));
        let silent = DesiredModel::default();
        let unknown = |number| Some(Action::Load(v(number), Revision(0)));
        type Case<'a> = (&'a str, &'a DesiredModel, Vec<(u64, Phase)>, Option<Action>, Option<u64>);
        let cases: Vec<Case> = vec![
            ("what is wanted comes first", &moved, vec![], load(3), None),
            ("and at once what answered last", &moved, vec![(3, Loading)], unknown(2), None),
            ("a lost alias keeps its version", &moved, vec![(2, Ready), (3, Loading)], unknown(1), Some(2)),
            ("a broken version", &moved, vec![(1, Ready), (3, failed(later))], unknown(2), None),
            ("stood in for", &moved, vec![(1, Ready), (2, Ready), (3, failed(later))], None, Some(2)),
            ("until what is wanted is ready", &moved, vec![(1, Ready), (3, Ready)], None, Some(3)),
            ("a silent registry", &silent, vec![], unknown(2), None),
            ("and its aliases", &silent, vec![(2, Ready)], unknown(1), Some(2)),
        ];
        for (name, desired, phases, expect, default) in cases {
            let standing = standing(desired, &last, &phases, now);
            let snapshot = Snapshot { desired, standing: &standing, last: &last };
            assert_eq!(snapshot.next_action(now, KEEP_WARM), expect, "{name}");
            assert_eq!(snapshot.routes().default.map(Version::get), default, "{name}");
        }
    }

    #[test]
    fn nobody_wakes_for_a_failed_version_that_would_not_be_loaded() {
        let now = Instant::now();
        let wanted =
            DesiredModel { fallback: [(v(1), Revision(1)), (v(2), Revision(1))].into(), ..desired(&[3], &[], Some(3)) };
        let cases = [
            ("a broken older version beside a good newest", vec![(2, failed(now)), (3, Ready)], None),
            ("a broken stand-in beside a good one", vec![(1, Ready), (2, failed(now)), (3, Loading)], None),
            ("the broken newest", vec![(1, Ready), (3, failed(now))], Some(now)),
            ("a broken stand-in while nothing answers", vec![(2, failed(now))], Some(now)),
        ];
        for (name, phases, expect) in cases {
            let last = Routes::default();
            let standing = standing(&wanted, &last, &phases, now);
            let snapshot = Snapshot { desired: &wanted, standing: &standing, last: &last };
            assert_eq!(snapshot.next_wake(KEEP_WARM), expect, "{name}");
            let loads = matches!(snapshot.next_action(now, KEEP_WARM), Some(Action::Load(..)));
            assert_eq!(loads, expect.is_some(), "{name}: due exactly if it would be loaded");
        }
    }

    #[test]
    fn a_version_is_tried_at_once_when_its_files_change() {
        let now = Instant::now();
        let last = Routes::default();
        for phase in [failed(now + Duration::from_secs(99)), Ready] {
            let mut wanted = desired(&[1], &[], Some(1));
            let standing = standing(&wanted, &last, &[(1, phase)], now);
            let act = |desired: &DesiredModel| {
                Snapshot { desired, standing: &standing, last: &last }.next_action(now, KEEP_WARM)
            };
            assert_eq!(act(&wanted), None);
            wanted.versions.insert(v(1), Revision(2));
            assert_eq!(act(&wanted), Some(Action::Load(v(1), Revision(2))));
        }
    }

    #[test]
    fn routes_move_only_to_ready_versions() {
        let before = to(1, &[("champion", 1)]);
        let now = Instant::now();
        let routes = |desired: &DesiredModel, phases: &[(u64, Phase)]| {
            let standing = standing(desired, &before, phases, now);
            Snapshot { desired, standing: &standing, last: &before }.routes()
        };
        let wanted = desired(&[2], &[("champion", 2), ("new", 2)], Some(2));
        let waiting = routes(&wanted, &[(1, Ready), (2, Loading)]);
        assert_eq!(waiting, before, "until 2 is ready everything stays, and `new` leads nowhere");
        let moved = routes(&wanted, &[(1, Ready), (2, Ready)]);
        assert_eq!(moved, to(2, &[("champion", 2), ("new", 2)]));
        assert_eq!(routes(&DesiredModel::default(), &[(1, Ready)]), before, "forgotten");
        let kept = routes(&desired(&[2], &[("challenger", 2)], None), &[(1, Ready), (2, Ready)]);
        assert_eq!(kept, to(1, &[("challenger", 2), ("champion", 1)]), "a deleted alias goes on answering");
    }

    #[test]
    fn an_alias_that_points_at_nothing_stays_where_it_was() {
        let before = to(3, &[("champion", 3)]);
        let now = Instant::now();
        let typo = DesiredModel {
            versions: [(v(2), Revision(1))].into(),
            ..desired(&[], &[("champion", 33), ("challenger", 2)], Some(33))
        };
        let standing = standing(&typo, &before, &[(2, Ready), (3, Ready)], now - KEEP_WARM);
        let snapshot = Snapshot { desired: &typo, standing: &standing, last: &before };
        let after = snapshot.routes();
        assert_eq!((after.default, after.aliases[&Alias::champion()]), (Some(v(3)), v(3)));
        assert_eq!(snapshot.next_action(now, KEEP_WARM), None, "and its version is not let go");
    }

    #[test]
    fn backoff_doubles_up_to_five_minutes() {
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 4_000_000_000].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
