//! What a warm lookup costs beside a plain map of the same keys and rows: 256 keys at random out of 200,000.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use aibuyer_features::{
    CacheOptions, CachedView,
    store::{FeatureStore, Fetch, Rows},
    view::{EntityKey, FeatureRow, FeatureValue, FeatureView},
};
use divan::Bencher;
use tokio::runtime::{Builder, Runtime};

const ENTITIES: usize = 200_000;
const REQUEST: usize = 256;

/// Has a row of every entity.
struct All;

impl FeatureStore for All {
    fn fetch<'a>(&'a self, _: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        Box::pin(async move { Ok(keys.iter().map(|key| (key.clone(), row())).collect::<Rows>()) })
    }
}

fn row() -> FeatureRow {
    FeatureRow { computed_at: SystemTime::now(), values: vec![FeatureValue::Integer(1); 16].into() }
}

fn key(number: usize) -> EntityKey {
    EntityKey::new(&format!("campaign_{number:012}")).unwrap()
}

/// Keys of many requests, which do not follow the order of the entries. Made anew, as a request's keys are.
static REQUESTS: LazyLock<Vec<Vec<EntityKey>>> = LazyLock::new(|| {
    let number = |n: usize| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ENTITIES;
    (0..512).map(|request| (0..REQUEST).map(|n| key(number(request * REQUEST + n + 1))).collect()).collect()
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

static CACHED: LazyLock<CachedView> = LazyLock::new(|| {
    let hour = Duration::from_secs(3600);
    let options = CacheOptions { soft_age: hour, hard_age: hour, absent_age: hour, capacity: 1 << 30 };
    let view = CachedView::new(FeatureView::campaign(), Arc::new(All), options, RUNTIME.handle().clone());
    let keys: Vec<_> = (0..ENTITIES).map(key).collect();
    for keys in keys.chunks(10_000) {
        RUNTIME.block_on(view.get(keys));
    }
    view
});

static PLAIN: LazyLock<HashMap<EntityKey, Arc<FeatureRow>, foldhash::fast::RandomState>> =
    LazyLock::new(|| (0..ENTITIES).map(|number| (key(number), Arc::new(row()))).collect());

fn main() {
    // Filled before anything is timed.
    LazyLock::force(&REQUESTS);
    LazyLock::force(&CACHED);
    LazyLock::force(&PLAIN);
    divan::main();
}

/// Runs `lookup` on one request after the other.
fn each<T>(bencher: Bencher, lookup: impl Fn(&[EntityKey]) -> T + Sync) {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let next = || turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % REQUESTS.len();
    bencher.counter(divan::counter::ItemsCount::new(REQUEST)).bench(|| lookup(&REQUESTS[next()]));
}

#[divan::bench(threads = [1, 2], sample_count = 500, sample_size = 8)]
fn cached(bencher: Bencher) {
    let here = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = here.handle();
    each(bencher, |keys| handle.block_on(CACHED.get(keys)));
}

#[divan::bench(threads = [1, 2], sample_count = 500, sample_size = 8)]
fn plain_map(bencher: Bencher) {
    each(bencher, |keys| keys.iter().map(|key| PLAIN.get(key).cloned()).collect::<Vec<_>>());
}
