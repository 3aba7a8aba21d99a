//! What warm lookups cost beside a plain map of the same keys and rows: 32 and 256 keys at random out of 200,000.

#![allow(clippy::unwrap_used)]

use std::{
    future::pending,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aibuyer_features::{
    Answer, CacheOptions, CachedView, Lookup, Mirror, MirrorOptions,
    store::{FeatureStore, Fetch, Rows},
    view::{EntityKey, FeatureRow, FeatureValue, FeatureView},
};
use divan::{Bencher, counter::ItemsCount};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

const ENTITIES: usize = 200_000;
const HOUR: Duration = Duration::from_secs(3600);

/// Has a row of every entity, until it is lost.
#[derive(Default)]
struct All {
    lost: AtomicBool,
}

impl FeatureStore for All {
    fn fetch<'a>(&'a self, _: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        if self.lost.load(Ordering::Relaxed) {
            return Box::pin(pending());
        }
        Box::pin(async move { Ok(keys.iter().map(|key| (key.clone(), row())).collect()) })
    }

    fn fetch_all<'a>(&'a self, _: &'a FeatureView, _: u64, _: Duration) -> Fetch<'a> {
        Box::pin(async { Ok(plain()) })
    }
}

fn row() -> FeatureRow {
    FeatureRow { computed_at: SystemTime::now(), values: vec![FeatureValue::Integer(1); 16].into() }
}

fn name(number: usize) -> String {
    format!("campaign_{number:012}")
}

/// As long as it takes.
fn far() -> Instant {
    Instant::now() + HOUR
}

/// Keys of many requests, which do not follow the order of the entries. Made anew, as a request's keys are.
static KEYS: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..=1 << 17).map(|n: usize| name(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ENTITIES)).collect());

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// With much room, and with so little that the popularity of each entry matters; both hold all.
static CACHED: LazyLock<CachedView> = LazyLock::new(|| filled(1 << 30, HOUR));
static NEARLY_FULL: LazyLock<CachedView> = LazyLock::new(|| filled(200 << 20, HOUR));
/// Whose rows are all stale, as the store answers no more.
static STALE: LazyLock<CachedView> = LazyLock::new(|| filled(1 << 30, Duration::ZERO));

fn filled(capacity: u64, soft_age: Duration) -> CachedView {
    let options = CacheOptions { soft_age, hard_age: HOUR, absent_age: HOUR, capacity };
    let store = Arc::new(All::default());
    let view = CachedView::new(FeatureView::campaign(), Arc::clone(&store) as _, options, RUNTIME.handle().clone());
    let names: Vec<_> = (0..ENTITIES).map(name).collect();
    for names in names.chunks(10_000) {
        let keys: Vec<_> = names.iter().map(String::as_str).collect();
        RUNTIME.block_on(view.read(&keys, far(), |_| ()));
    }
    store.lost.store(true, Ordering::Relaxed);
    view
}

static MIRROR: LazyLock<Mirror> = LazyLock::new(|| {
    let options = MirrorOptions { interval: HOUR, hard_age: 3 * HOUR, capacity: u64::MAX };
    let mirror = Mirror::new(FeatureView::campaign(), Arc::new(All::default()), options, RUNTIME.handle());
    while mirror.stats().entries == 0 {
        std::thread::yield_now();
    }
    mirror
});

static PLAIN: LazyLock<Rows> = LazyLock::new(plain);

fn plain() -> Rows {
    (0..ENTITIES).map(|n| (EntityKey::new(&name(n)).unwrap(), row())).collect()
}

fn main() {
    // Filled before anything is timed.
    LazyLock::force(&KEYS);
    LazyLock::force(&CACHED);
    LazyLock::force(&NEARLY_FULL);
    LazyLock::force(&STALE);
    LazyLock::force(&MIRROR);
    LazyLock::force(&PLAIN);
    divan::main();
}

/// A value of each row.
fn look(answers: &[Answer<'_>]) -> i64 {
    let row = |answer: &Answer<'_>| match answer {
        Ok(Lookup::Present(row) | Lookup::Stale(row)) => number(row),
        _ => 0,
    };
    answers.iter().map(row).sum()
}

fn number(row: &FeatureRow) -> i64 {
    if let FeatureValue::Integer(value) = row.values[7] { value } else { 0 }
}

/// Runs `lookup` on one request of `size` keys after the other.
fn each<T>(bencher: Bencher, size: usize, lookup: impl Fn(&[&str]) -> T + Sync) {
    let keys: Vec<&str> = KEYS.iter().map(String::as_str).collect();
    let requests: Vec<&[&str]> = keys.chunks(size).collect();
    let turn = AtomicUsize::new(0);
    let next = || requests[turn.fetch_add(1, Ordering::Relaxed) % requests.len()];
    bencher.counter(ItemsCount::new(size)).bench(|| lookup(next()));
}

/// One request after the other through a cache.
fn through(bencher: Bencher, size: usize, view: &CachedView) {
    let here = Builder::new_current_thread().enable_all().build().unwrap();
    each(bencher, size, |keys| here.handle().block_on(view.read(keys, far(), look)));
}

#[divan::bench(threads = [1, 2], args = [32, 256], sample_count = 500, sample_size = 16)]
fn cached(bencher: Bencher, size: usize) {
    through(bencher, size, &CACHED);
}

#[divan::bench(threads = [1, 2], args = [32, 256], sample_count = 500, sample_size = 16)]
fn nearly_full(bencher: Bencher, size: usize) {
    through(bencher, size, &NEARLY_FULL);
}

/// Each second they are asked for again, too, behind the caller's back.
#[divan::bench(threads = [1, 2], args = [32, 256], sample_count = 500, sample_size = 16)]
fn stale(bencher: Bencher, size: usize) {
    through(bencher, size, &STALE);
}

#[divan::bench(threads = [1, 2], args = [32, 256], sample_count = 500, sample_size = 16)]
fn mirror(bencher: Bencher, size: usize) {
    each(bencher, size, |keys| MIRROR.read(keys, look));
}

#[divan::bench(threads = [1, 2], args = [32, 256], sample_count = 500, sample_size = 16)]
fn plain_map(bencher: Bencher, size: usize) {
    each(bencher, size, |keys| {
        let rows: Vec<_> = keys.iter().map(|key| PLAIN.get(*key)).collect();
        rows.into_iter().flatten().map(number).sum::<i64>()
    });
}
