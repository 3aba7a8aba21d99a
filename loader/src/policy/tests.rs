//! Tables of what is there, and what is to be done about it.

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

/// Where nothing has been compared.
fn look<'a>(desired: &'a DesiredModel, standing: &'a Map, last: &'a Routes) -> Snapshot<'a> {
    static NONE: Verdicts = Verdicts::new();
    Snapshot { desired, standing, last, verdicts: &NONE }
}

fn failed(retry_at: Instant) -> Phase {
    Phase::Failed(Failure { check: "golden", reason: String::new(), attempts: 1, retry_at })
}

/// Versions in these phases; ready ones that nothing asks for are unused since `unused`.
fn standing(desired: &DesiredModel, last: &Routes, phases: &[(u64, Phase)], unused: Instant) -> Map {
    let stand =
        |phase: &Phase| Standing { phase: phase.clone(), revision: Revision(1), unused_since: None, reload_at: None };
    let mut standing: Map = phases.iter().map(|(n, p)| (v(*n), stand(p))).collect();
    let routes = look(desired, &standing, last).routes();
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
        let snapshot = look(desired, &standing, &last);
        assert_eq!(snapshot.next_action(now, KEEP_WARM, Loads::Any), expect, "{name}");
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
    while let Some(Action::Drain(version)) = look(&wanted, &standing, &last).next_action(now, KEEP_WARM, Loads::Any) {
        standing.remove(&version);
        drained.push(version.get());
    }
    assert_eq!(drained, [3, 1]);
    let wake = look(&wanted, &standing, &last).next_wake(KEEP_WARM, Loads::Any);
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
        let snapshot = look(&wanted, &standing, &last);
        (snapshot.routes().default, snapshot.next_action(now, KEEP_WARM, Loads::Any))
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
        ("and is waited for", &moved, vec![(2, Loading), (3, Ready)], unknown(1), None),
        ("a lost alias keeps its version", &moved, vec![(2, Ready), (3, Loading)], unknown(1), Some(2)),
        ("a broken version", &moved, vec![(1, Ready), (3, failed(later))], unknown(2), None),
        ("stood in for", &moved, vec![(1, Ready), (2, Ready), (3, failed(later))], None, Some(2)),
        ("until what is wanted is ready", &moved, vec![(1, Ready), (2, Ready), (3, Ready)], None, Some(3)),
        ("or it cannot be had", &moved, vec![(1, Ready), (2, failed(later)), (3, Ready)], None, Some(3)),
        ("a silent registry", &silent, vec![], unknown(2), None),
        ("and its aliases", &silent, vec![(2, Ready)], unknown(1), Some(2)),
    ];
    for (name, desired, phases, expect, default) in cases {
        let standing = standing(desired, &last, &phases, now);
        let snapshot = look(desired, &standing, &last);
        assert_eq!(snapshot.next_action(now, KEEP_WARM, Loads::Any), expect, "{name}");
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
        let snapshot = look(&wanted, &standing, &last);
        assert_eq!(snapshot.next_wake(KEEP_WARM, Loads::Any), expect, "{name}");
        let loads = matches!(snapshot.next_action(now, KEEP_WARM, Loads::Any), Some(Action::Load(..)));
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
        let act = |desired: &DesiredModel| look(desired, &standing, &last).next_action(now, KEEP_WARM, Loads::Any);
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
        look(desired, &standing, &before).routes()
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
fn a_version_that_may_not_take_over_from_one_may_answer_elsewhere() {
    let now = Instant::now();
    let before = to(1, &[("champion", 1), ("next", 2)]);
    let wanted = desired(&[2], &[("champion", 2), ("next", 2)], Some(2));
    let standing = standing(&wanted, &before, &[(1, Ready), (2, Ready)], now - KEEP_WARM);
    for (verdict, expect) in [(true, to(2, &[("champion", 2), ("next", 2)])), (false, before.clone())] {
        let verdicts = Verdicts::from([((v(2), v(1)), verdict)]);
        let snapshot = Snapshot { verdicts: &verdicts, ..look(&wanted, &standing, &before) };
        assert_eq!(snapshot.routes(), expect);
        // Unused by name of the map above, which knew no verdict; but never while a route leads to it.
        if !verdict {
            assert!(snapshot.needed().iter().any(|(version, _)| *version == v(1)), "the incumbent is needed");
        }
    }
}

#[test]
fn while_no_load_may_begin_nobody_wakes_for_one_and_nothing_else_waits() {
    let now = Instant::now();
    let last = to(2, &[]);
    let wanted = desired(&[2, 3], &[("champion", 2), ("next", 3)], Some(2));
    let phases = [(1, Ready), (2, Ready), (3, failed(now))];
    let standing = standing(&wanted, &last, &phases, now - KEEP_WARM);
    let snapshot = look(&wanted, &standing, &last);
    assert_eq!(snapshot.next_action(now, KEEP_WARM, Loads::Any), load(3));
    for loads in [Loads::None, Loads::FirstTries] {
        assert_eq!(snapshot.next_action(now, KEEP_WARM, loads), Some(Action::Drain(v(1))));
        assert_eq!(snapshot.next_wake(KEEP_WARM, loads), Some(now), "the warm version's end only");
    }
    let new = look(&wanted, &Map::new(), &last).next_action(now, KEEP_WARM, Loads::FirstTries);
    assert_eq!(new, load(2));
}

#[test]
fn refused_new_files_of_a_version_that_serves_are_tried_again() {
    let now = Instant::now();
    let last = to(1, &[]);
    let wanted = desired(&[1], &[], Some(1));
    let mut standing = standing(&wanted, &last, &[(1, Ready)], now);
    standing.get_mut(&v(1)).unwrap().reload_at = Some(now);
    let snapshot = look(&wanted, &standing, &last);
    assert_eq!(snapshot.next_wake(KEEP_WARM, Loads::Any), Some(now));
    assert_eq!(snapshot.next_action(now, KEEP_WARM, Loads::Any), load(1));
    let earlier = now - Duration::from_secs(1);
    assert_eq!(snapshot.next_action(earlier, KEEP_WARM, Loads::Any), None);
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
    let snapshot = look(&typo, &standing, &before);
    let after = snapshot.routes();
    assert_eq!((after.default, after.aliases[&Alias::champion()]), (Some(v(3)), v(3)));
    assert_eq!(snapshot.next_action(now, KEEP_WARM, Loads::Any), None, "and its version is not let go");
}

#[test]
fn backoff_doubles_up_to_five_minutes() {
    let seconds: Vec<u64> = [1, 2, 3, 9, 10, 4_000_000_000].map(|n| backoff(n).as_secs()).to_vec();
    assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
}
