//! On a paused clock, against a store whose rows the test sets.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use tokio::{runtime, time};

use super::*;
use crate::{
    fake::{Fake, SECOND, State, key, seen},
    view::EntityKey,
};

const OPTIONS: CacheOptions = CacheOptions {
    soft_age: Duration::from_secs(10),
    hard_age: Duration::from_secs(60),
    absent_age: Duration::from_secs(5),
    capacity: 1 << 26,
};

/// As long as it takes.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// What a caller of these keys sees.
async fn get(view: &CachedView, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let keys: Vec<_> = numbers.into_iter().map(key).collect();
    let keys: Vec<_> = keys.iter().map(EntityKey::as_str).collect();
    view.read(&keys, far(), seen).await
}

fn cached(fake: Fake) -> (Arc<CachedView>, Arc<Fake>) {
    let fake = Arc::new(fake);
    let store = Arc::clone(&fake) as Arc<dyn FeatureStore>;
    (Arc::new(CachedView::new(FeatureView::campaign(), store, OPTIONS, Handle::current())), fake)
}

#[tokio::test(start_paused = true)]
async fn rows_are_fetched_once_then_served_stale_then_fetched_again() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().insert(key(1), 1);
    assert_eq!(get(&view, [1, 2]).await, ["P1", "A"]);
    fake.rows.lock().unwrap().extend([(key(1), 2), (key(2), 3)]);
    time::advance(4 * SECOND).await;
    assert_eq!(get(&view, [1, 2]).await, ["P1", "A"]);
    // The absent one has the shorter life.
    time::advance(2 * SECOND).await;
    assert_eq!(get(&view, [1, 2]).await, ["P1", "P3"]);
    time::advance(5 * SECOND).await;
    assert_eq!(get(&view, [1, 2]).await, ["S1", "P3"]);
    time::sleep(Duration::from_millis(60)).await;
    assert_eq!(get(&view, [1, 2]).await, ["P2", "P3"]);
    assert_eq!(fake.queries.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_stale_together_are_fetched_together_and_hold_up_no_miss() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().extend((0..100).map(|n| (key(n), 1)));
    get(&view, 0..99).await;
    time::advance(OPTIONS.soft_age).await;
    for caller in 0..30 {
        assert!(get(&view, (0..3).map(|n| caller * 3 + n)).await.iter().all(|seen| seen == "S1"));
        time::sleep(Duration::from_millis(1)).await;
    }
    let asked = Instant::now();
    assert_eq!(get(&view, [99]).await, ["P1"]);
    assert!(asked.elapsed() < Duration::from_millis(5));
    time::sleep(Duration::from_millis(60)).await;
    assert!(get(&view, 0..90).await.iter().all(|seen| seen == "P1"));
    let queries: Vec<_> = fake.queries.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(queries, [99, 1, 90]);
}

#[tokio::test(start_paused = true)]
async fn callers_share_queries_and_each_key_is_in_one() {
    let (view, fake) = cached(Fake { takes: 20 * SECOND / 1000, ..Fake::default() });
    fake.rows.lock().unwrap().extend((0..5000).map(|n| (key(n), 1)));
    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let view = Arc::clone(&view);
            tokio::spawn(async move { get(&view, (0..256).map(|n| (caller * 97 + n * 31) % 5000)).await })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap().iter().all(|seen| seen == "P1"));
    }
    let queries = fake.queries.lock().unwrap();
    let all: Vec<&EntityKey> = queries.iter().flatten().collect();
    assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len(), "a key was asked for twice");
    assert!(queries.iter().all(|keys| keys.len() <= 2048));
    assert_eq!(queries.len(), all.len().div_ceil(2048));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_ends_no_query() {
    let (view, fake) = cached(Fake { takes: SECOND, ..Fake::default() });
    fake.rows.lock().unwrap().insert(key(1), 7);
    assert!(time::timeout(SECOND / 2, get(&view, [1])).await.is_err());
    assert_eq!(get(&view, [1]).await, ["P7"]);
    assert_eq!(fake.queries.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept_and_a_panic_leaves_nothing_in_flight() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().insert(key(1), 7);
    for state in [State::Down, State::Panics] {
        *fake.state.lock().unwrap() = state;
        assert_eq!(get(&view, [1]).await, ["E"]);
        assert!(view.flights.is_idle());
    }
    *fake.state.lock().unwrap() = State::Up;
    assert_eq!(get(&view, [1]).await, ["P7"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_asked_once_a_second_for_stale_rows() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().insert(key(1), 7);
    get(&view, [1]).await;
    time::advance(OPTIONS.soft_age).await;
    *fake.state.lock().unwrap() = State::Down;
    for _ in 0..100 {
        assert_eq!(get(&view, [1]).await, ["S7"]);
        time::sleep(SECOND / 10).await;
    }
    let queries = fake.queries.lock().unwrap().len();
    assert!((9..=11).contains(&queries), "{queries} queries in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn lookups_are_refused_when_too_many_wait() {
    let (view, _fake) = cached(Fake { takes: SECOND, ..Fake::default() });
    let crowd = get(&view, 0..70_000).await;
    assert_eq!(crowd.iter().filter(|seen| *seen == "E").count(), 70_000 - 65_536);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_cannot_wait_gets_what_is_there_and_the_next_one_the_rest() {
    let (slow, fake) = cached(Fake { takes: SECOND, ..Fake::default() });
    fake.rows.lock().unwrap().extend([(key(1), 1), (key(2), 2)]);
    assert_eq!(get(&slow, [1]).await, ["P1"]);
    let soon = Instant::now() + SECOND / 2;
    let known = slow.read(&["camp_1", "camp_2"], soon, |known| (seen(known), known[1].err().cloned())).await;
    assert_eq!(Instant::now(), soon);
    assert_eq!(known, (vec!["P1".to_owned(), "E".to_owned()], Some(StoreError::Late("campaign"))));
    time::advance(SECOND).await;
    tokio::task::yield_now().await;
    assert_eq!(slow.read(&["camp_2"], Instant::now(), seen).await, ["P2"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_may_come_twice_and_one_that_cannot_be_a_key_is_absent() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().insert(key(1), 7);
    let long = "x".repeat(EntityKey::LONGEST + 1);
    for _ in 0..2 {
        let seen = view.read(&["camp_1", "", "camp_2", &long, "camp_1", "camp_2"], far(), seen).await;
        assert_eq!(seen, ["P7", "A", "A", "A", "P7", "A"]);
    }
    time::advance(OPTIONS.soft_age).await;
    assert_eq!(view.read(&["camp_1", "", "camp_1"], far(), seen).await, ["S7", "A", "S7"]);
    time::sleep(SECOND).await;
    assert_eq!(*fake.queries.lock().unwrap(), [vec![key(1), key(2)], vec![key(1)]]);
}

#[tokio::test(start_paused = true)]
async fn outcomes_and_queries_are_counted() {
    let (view, fake) = cached(Fake::default());
    fake.rows.lock().unwrap().insert(key(1), 7);
    get(&view, [1, 2]).await;
    get(&view, [1]).await;
    *fake.state.lock().unwrap() = State::Down;
    get(&view, [3, 4, 5]).await;
    time::advance(OPTIONS.soft_age).await;
    get(&view, [1]).await;
    let stats = view.stats();
    let expected = SourceStats {
        present: 2,
        stale: 1,
        absent: 1,
        failed: 3,
        queries: 2,
        failed_queries: 1,
        fetched: 2,
        entries: 2,
        refreshed: None,
        ..stats
    };
    assert_eq!(stats, expected);
    assert!((900..2000).contains(&stats.bytes), "{} bytes", stats.bytes);
}

#[test]
fn a_runtime_that_has_ended_breaks_lookups_off_and_blocks_none() {
    let gone = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = gone.handle().clone();
    drop(gone);
    let store = Arc::new(Fake::default()) as Arc<dyn FeatureStore>;
    let view = CachedView::new(FeatureView::campaign(), store, OPTIONS, handle);
    let here = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(here.block_on(get(&view, [1])), ["E"]);
    assert!(view.flights.is_idle());
}

#[derive(Debug, Clone)]
enum Step {
    Get(Vec<usize>),
    Set(usize, Option<i64>),
    Wait(u64),
    Up(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..6_usize, 1..5).prop_map(Step::Get),
        2 => (0..6_usize, prop::option::of(0..100_i64)).prop_map(|(k, v)| Step::Set(k, v)),
        2 => (1..30_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Up),
    ]
}

/// The same by the book: one key after the other, in whole seconds, with no thought of cost.
#[derive(Default)]
struct Naive {
    truth: HashMap<usize, i64>,
    known: HashMap<usize, (u64, Option<i64>)>,
    down: bool,
    now: u64,
    refresh_from: u64,
}

impl Naive {
    fn get(&mut self, keys: &[usize]) -> Vec<String> {
        // A row is fetched a millisecond after it was asked for: at a whole second it is that much younger.
        let ages = |age: Duration| age.as_secs();
        let mut answers = Vec::new();
        let (mut fetch, mut failed) = (Vec::new(), false);
        for key in keys {
            let known = self.known.get(key).map(|(at, row)| (self.now - at, *row));
            answers.push(match known {
                Some((age, Some(n))) if age <= ages(OPTIONS.soft_age) => format!("P{n}"),
                Some((age, Some(n))) if age <= ages(OPTIONS.hard_age) => {
                    if self.now >= self.refresh_from {
                        fetch.push(*key);
                        failed |= self.down;
                    }
                    format!("S{n}")
                }
                Some((age, None)) if age <= ages(OPTIONS.absent_age) => "A".to_owned(),
                _ if self.down => {
                    failed = true;
                    "E".to_owned()
                }
                _ => {
                    fetch.push(*key);
                    self.truth.get(key).map_or_else(|| "A".to_owned(), |n| format!("P{n}"))
                }
            });
        }
        if !self.down {
            for key in fetch {
                self.known.insert(key, (self.now, self.truth.get(&key).copied()));
            }
        }
        if failed {
            self.refresh_from = self.now + 2; // a second and some milliseconds, in whole ones
        }
        answers
    }
}

proptest! {
    #[test]
    fn it_answers_as_a_naive_one(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (view, fake) = cached(Fake::default());
            let mut naive = Naive::default();
            let start = Instant::now();
            for step in steps {
                match step {
                    Step::Get(numbers) => {
                        let seen = get(&view, numbers.iter().copied()).await;
                        assert_eq!(seen, naive.get(&numbers), "{numbers:?} at {} s", naive.now);
                        // What goes on behind the caller's back ends within this second; the next is two later.
                        naive.now += 2;
                    }
                    Step::Set(number, value) => {
                        let mut rows = fake.rows.lock().unwrap();
                        match value {
                            Some(value) => {
                                rows.insert(key(number), value);
                                naive.truth.insert(number, value);
                            }
                            None => {
                                rows.remove(&key(number));
                                naive.truth.remove(&number);
                            }
                        }
                    }
                    Step::Wait(seconds) => naive.now += seconds,
                    Step::Up(up) => {
                        *fake.state.lock().unwrap() = if up { State::Up } else { State::Down };
                        naive.down = !up;
                    }
                }
                time::sleep_until(start + Duration::from_secs(naive.now)).await;
            }
        });
    }
}
