//! What to do next about one model: pure functions of what is wanted and what is there.
//!
//! Availability comes first (as in TensorFlow Serving's availability-preserving policy): a version in use is
//! let go only after what replaces it is ready, and nothing is let go because the registry lost sight of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{Alias, DesiredModel, Revision, Version};

use crate::phase::Phase;

/// Where one version stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its phase.
    pub phase: Phase,
    /// The revision of its files that was last tried.
    pub revision: Revision,
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
        self.default == Some(version) || self.aliases.values().any(|v| *v == version)
    }
}

/// The one thing to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Load this version.
    Load(Version),
    /// Take this version out of service.
    Drain(Version),
}

/// Routes as they should be now: each goes where the registry wants it once that version is ready, and
/// until then stays where it was.
#[must_use]
pub fn routes(desired: &DesiredModel, standing: &BTreeMap<Version, Standing>, before: &Routes) -> Routes {
    let ready = |v: &Version| standing.get(v).is_some_and(|s| s.phase == Phase::Ready);
    let settle = |wanted: Version, before: Option<Version>| Some(wanted).filter(&ready).or(before.filter(&ready));
    let stand_in = || desired.fallback.keys().rev().copied().find(&ready);
    Routes {
        default: match desired.default {
            Some(wanted) => settle(wanted, before.default).or_else(stand_in),
            // Without aliases there is always a default, so this is a model whose `champion` was removed.
            None if desired.aliases.is_empty() => before.default.filter(ready),
            None => None,
        },
        aliases: desired
            .aliases
            .iter()
            .filter_map(|(alias, wanted)| {
                let version = settle(*wanted, before.aliases.get(alias).copied())?;
                Some((alias.clone(), version))
            })
            .collect(),
    }
}

/// The next action for a model, if any; the default version loads first.
#[must_use]
pub fn next_action(
    desired: &DesiredModel,
    standing: &BTreeMap<Version, Standing>,
    routes: &Routes,
    now: Instant,
) -> Option<Action> {
    let due = |version: &Version, revision: Revision| match standing.get(version) {
        None => true,
        Some(s) => match &s.phase {
            Phase::Pending => true,
            Phase::Failed(failure) => failure.retry_at <= now || s.revision != revision,
            Phase::Loading | Phase::Ready | Phase::Draining => false,
        },
    };
    let wanted = desired.default.into_iter().chain(desired.versions.keys().copied());
    for version in wanted {
        if let Some(revision) = desired.versions.get(&version)
            && due(&version, *revision)
        {
            return Some(Action::Load(version));
        }
    }
    // Nothing answers and every wanted version has been tried: the greatest older one that loads stands in.
    if none_ready(standing)
        && let Some((version, _)) = desired.fallback.iter().rev().find(|(v, revision)| due(v, **revision))
    {
        return Some(Action::Load(*version));
    }
    let replaced = desired.versions.keys().any(|v| standing.get(v).is_some_and(|s| s.phase == Phase::Ready));
    standing
        .iter()
        .find(|(version, s)| {
            s.phase == Phase::Ready && replaced && !desired.versions.contains_key(version) && !routes.lead_to(**version)
        })
        .map(|(version, _)| Action::Drain(*version))
}

fn none_ready(standing: &BTreeMap<Version, Standing>) -> bool {
    !standing.values().any(|s| matches!(s.phase, Phase::Ready | Phase::Loading))
}

/// When the next failed version is due of those that [`next_action`] would then load. One that is wanted no
/// longer is never due: waking for it would be waking for ever.
#[must_use]
pub fn next_retry(desired: &DesiredModel, standing: &BTreeMap<Version, Standing>) -> Option<Instant> {
    let stand_ins = none_ready(standing);
    let loadable = |version: &Version| {
        desired.versions.contains_key(version) || stand_ins && desired.fallback.contains_key(version)
    };
    let failed = standing.iter().filter(|(version, _)| loadable(version));
    failed
        .filter_map(|(_, s)| match &s.phase {
            Phase::Failed(failure) => Some(failure.retry_at),
            _ => None,
        })
        .min()
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

    fn standing(phases: &[(u64, Phase)]) -> BTreeMap<Version, Standing> {
        let stand = |phase: &Phase| Standing { phase: phase.clone(), revision: Revision(1) };
        phases.iter().map(|(n, p)| (v(*n), stand(p))).collect()
    }

    fn failed(retry_at: Instant) -> Phase {
        Phase::Failed(Failure { check: "golden", reason: String::new(), attempts: 1, retry_at })
    }

    #[test]
    fn one_action_at_a_time() {
        use Phase::{Draining, Loading, Ready};
        let now = Instant::now();
        let (later, earlier) = (now + Duration::from_secs(1), now - Duration::from_secs(1));
        let latest2 = desired(&[2], &[], Some(2));
        let nothing = DesiredModel::default();
        let both = desired(&[1, 2], &[("champion", 2), ("challenger", 1)], Some(2));
        type Case<'a> = (&'a str, &'a DesiredModel, Vec<(u64, Phase)>, Option<Action>);
        let cases: Vec<Case> = vec![
            ("the first version loads", &latest2, vec![], Some(Action::Load(v(2)))),
            ("the default loads first", &both, vec![], Some(Action::Load(v(2)))),
            ("then the others", &both, vec![(2, Ready)], Some(Action::Load(v(1)))),
            ("a load is not begun twice", &latest2, vec![(2, Loading)], None),
            ("the old one stays until the new one is ready", &latest2, vec![(1, Ready), (2, Loading)], None),
            ("a bad version never replaces a good one", &latest2, vec![(1, Ready), (2, failed(later))], None),
            ("then it drains", &latest2, vec![(1, Ready), (2, Ready)], Some(Action::Drain(v(1)))),
            ("and is left to finish", &latest2, vec![(1, Draining), (2, Ready)], None),
            ("a failed one waits", &latest2, vec![(2, failed(later))], None),
            ("and is tried again", &latest2, vec![(2, failed(earlier))], Some(Action::Load(v(2)))),
            ("a registry that forgot everything changes nothing", &nothing, vec![(1, Ready)], None),
        ];
        for (name, desired, phases, expect) in cases {
            let standing = standing(&phases);
            let routes = routes(desired, &standing, &Routes { default: Some(v(1)), ..Routes::default() });
            assert_eq!(next_action(desired, &standing, &routes, now), expect, "{name}");
        }
    }

    #[test]
    fn an_older_version_stands_in_until_a_wanted_one_is_ready() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let wanted =
            DesiredModel { fallback: [(v(1), Revision(1)), (v(2), Revision(1))].into(), ..desired(&[3], &[], Some(3)) };
        let act = |phases: &[(u64, Phase)]| {
            let standing = standing(phases);
            let routes = routes(&wanted, &standing, &Routes::default());
            (routes.default, next_action(&wanted, &standing, &routes, now))
        };
        assert_eq!(act(&[]), (None, Some(Action::Load(v(3)))));
        assert_eq!(act(&[(3, failed(later))]), (None, Some(Action::Load(v(2)))));
        assert_eq!(act(&[(2, failed(later)), (3, failed(later))]), (None, Some(Action::Load(v(1)))));
        assert_eq!(act(&[(2, Phase::Ready), (3, failed(later))]), (Some(v(2)), None));
        assert_eq!(act(&[(2, Phase::Ready), (3, Phase::Ready)]), (Some(v(3)), Some(Action::Drain(v(2)))));
    }

    #[test]
    fn nobody_wakes_for_a_failed_version_that_would_not_be_loaded() {
        let now = Instant::now();
        let wanted =
            DesiredModel { fallback: [(v(1), Revision(1)), (v(2), Revision(1))].into(), ..desired(&[3], &[], Some(3)) };
        let cases = [
            ("a broken older version beside a good newest", vec![(2, failed(now)), (3, Phase::Ready)], None),
            ("a broken stand-in beside a good one", vec![(1, Phase::Ready), (2, failed(now))], None),
            ("the broken newest", vec![(1, Phase::Ready), (3, failed(now))], Some(now)),
            ("a broken stand-in while nothing answers", vec![(2, failed(now))], Some(now)),
        ];
        for (name, phases, expect) in cases {
            let mut phases = phases;
            if expect.is_none() && !phases.iter().any(|(n, _)| *n == 3) {
                phases.push((3, Phase::Loading));
            }
            let standing = standing(&phases);
            assert_eq!(next_retry(&wanted, &standing), expect, "{name}");
            let routes = routes(&wanted, &standing, &Routes::default());
            let loads = matches!(next_action(&wanted, &standing, &routes, now), Some(Action::Load(_)));
            assert_eq!(loads, expect.is_some(), "{name}: due exactly if it would be loaded");
        }
    }

    #[test]
    fn a_failed_version_is_tried_at_once_when_its_files_change() {
        let now = Instant::now();
        let mut wanted = desired(&[1], &[], Some(1));
        let standing = standing(&[(1, failed(now + Duration::from_secs(99)))]);
        assert_eq!(next_action(&wanted, &standing, &Routes::default(), now), None);
        wanted.versions.insert(v(1), Revision(2));
        assert_eq!(next_action(&wanted, &standing, &Routes::default(), now), Some(Action::Load(v(1))));
    }

    #[test]
    fn routes_move_only_to_ready_versions() {
        let before = Routes { default: Some(v(1)), aliases: [("champion".parse().unwrap(), v(1))].into() };
        let wanted = desired(&[2], &[("champion", 2), ("new", 2)], Some(2));
        let waiting = routes(&wanted, &standing(&[(1, Phase::Ready), (2, Phase::Loading)]), &before);
        assert_eq!(waiting, before, "until 2 is ready everything stays, and `new` leads nowhere");
        let moved = routes(&wanted, &standing(&[(1, Phase::Ready), (2, Phase::Ready)]), &before);
        assert_eq!(moved.default, Some(v(2)));
        assert_eq!(moved.aliases.values().copied().collect::<Vec<_>>(), [v(2), v(2)]);
        let forgotten = routes(&DesiredModel::default(), &standing(&[(1, Phase::Ready)]), &before);
        assert_eq!(forgotten.default, Some(v(1)));
        let without_champion = desired(&[1], &[("challenger", 1)], None);
        assert_eq!(routes(&without_champion, &standing(&[(1, Phase::Ready)]), &before).default, None);
    }

    #[test]
    fn an_alias_that_points_at_nothing_stays_where_it_was() {
        let before = Routes { default: Some(v(3)), aliases: [("champion".parse().unwrap(), v(3))].into() };
        let standing = standing(&[(2, Phase::Ready), (3, Phase::Ready)]);
        let typo = DesiredModel {
            versions: [(v(2), Revision(1))].into(),
            ..desired(&[], &[("champion", 33), ("challenger", 2)], Some(33))
        };
        let after = routes(&typo, &standing, &before);
        assert_eq!((after.default, after.aliases[&Alias::champion()]), (Some(v(3)), v(3)));
        assert_eq!(next_action(&typo, &standing, &after, Instant::now()), None, "and its version is not let go");
    }

    #[test]
    fn backoff_doubles_up_to_five_minutes() {
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 4_000_000_000].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
