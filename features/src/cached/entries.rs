//! The entries: a sharded map that reads see, and moka, which decides who stays.
//!
//! A read of moka costs many times that of a map. So a map serves the reads, and moka keeps the policy alone: weights
//! against the capacity, popularity (TinyLFU), time to live. What it evicts its listener takes out of the map. While more
//! than half of the capacity is taken, it is told of a sample of the reads and fetches.
//!
//! Both name an entry by the hash of its key, computed once; of two keys of one hash the later takes the place, and
//! the earlier is fetched again. An entry is in the map before moka hears of it, so that what moka evicts at once
//! is found; and each has a stamp, so that news of an entry that was replaced does not remove its successor. While a key
//! is inserted by one caller at a time, as flights do, whatever is in the map is in moka or about to be.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{notification::RemovalCause, sync::Cache};
use tokio::time::Instant;

use crate::view::{EntityKey, FeatureRow};

/// Parts of the map: what is written in one holds up no reader of another.
const SHARDS: usize = 64;
/// One read in so many is told to moka.
const READS: usize = 32;
/// One fetch in so many is. More often than reads: what is new must get the better of what is there to stay.
///
/// Told of all reads, moka's hit rate over 200,000 keys by Zipf's law (exponent 0.9) is 57 % with room for 5 % of them and
/// 74 % for 20 %; told so, 55 and 73 %, soon after other keys became popular too. One in 8 of both: 58 and 73 %, but a
/// read costs half as much again.
const FETCHES: usize = 4;
/// What an entry takes beside its key and row, in the map and in moka, about.
const ENTRY_BYTES: usize = 480;

/// An entity's row, or that there is none.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) fetched: Instant,
    pub(super) row: Option<Arc<FeatureRow>>,
}

struct Slot {
    key: EntityKey,
    entry: Entry,
    stamp: u64,
}

/// What moka holds of an entry.
#[derive(Clone, Copy)]
struct Standing {
    stamp: u64,
    weight: u32,
}

/// On cache lines of its own, so that readers of neighbours do not disturb each other.
#[derive(Default)]
#[repr(align(64))]
struct Shard(RwLock<HashMap<u64, Slot, AsGiven>>);

impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<u64, Slot, AsGiven>> {
        // Each change is one call of the map.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u64, Slot, AsGiven>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Shards([Shard; SHARDS]);

impl Shards {
    /// By bits that the shard's own table does not look at: it takes the lowest and the seven highest.
    fn of(&self, hash: u64) -> &Shard {
        let middle = (hash >> 48) as usize; // keeps 16 bits wherever usize has them
        &self.0[middle % SHARDS]
    }
}

/// A cache's entries.
pub(super) struct Entries {
    shards: Arc<Shards>,
    policy: Cache<u64, Standing, AsGiven>,
    hashes: foldhash::quality::RandomState,
    stamps: AtomicU64,
    capacity: u64,
}

impl Entries {
    /// None yet. They may take about `capacity` bytes, and stay for `time_to_live` at most.
    pub(super) fn new(capacity: u64, time_to_live: Duration) -> Self {
        let shards = Arc::new(Shards(std::array::from_fn(|_| Shard::default())));
        let at = Arc::clone(&shards);
        let evicted = move |hash: Arc<u64>, standing: Standing, cause: RemovalCause| {
            // Its successor is in the map already.
            if cause != RemovalCause::Replaced {
                let mut shard = at.of(*hash).write();
                let gone = shard.get(&hash).is_some_and(|slot| slot.stamp == standing.stamp);
                let slot = if gone { shard.remove(&hash) } else { None };
                drop(shard);
                drop(slot);
            }
        };
        let policy = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, standing: &Standing| standing.weight)
            .time_to_live(time_to_live)
            .eviction_listener(evicted)
            .build_with_hasher(AsGiven::default());
        Self { shards, policy, hashes: foldhash::quality::RandomState::default(), stamps: AtomicU64::new(0), capacity }
    }

    /// What `judge` makes of the key's entry, if there is one.
    pub(super) fn read<T>(&self, key: &str, judge: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        let hash = self.hashes.hash_one(key);
        let shard = self.shards.of(hash).read();
        let slot = shard.get(&hash)?;
        if slot.key.as_str() == key { judge(&slot.entry) } else { None }
    }

    /// Tells moka of some of the keys that were read, if it may have to choose soon.
    pub(super) fn note(&self, keys: &[&str]) {
        if self.policy.weighted_size() < self.capacity / 2 {
            return;
        }
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        for key in keys.iter().skip(scattered(stamp, READS)).step_by(READS) {
            self.policy.get(&self.hashes.hash_one(key));
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.shards.0.iter().map(|shard| shard.read().len()).sum()
    }

    /// Bytes that they take, about; does what moka has put off.
    pub(super) fn bytes(&self) -> u64 {
        self.policy.run_pending_tasks();
        self.policy.weighted_size()
    }

    /// Puts an entry in the place of any that the key has.
    pub(super) fn insert(&self, key: &EntityKey, entry: Entry) {
        let hash = self.hashes.hash_one(key.as_str());
        let bytes = ENTRY_BYTES + key.as_str().len() + entry.row.as_ref().map_or(0, |row| row.bytes());
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { key: key.clone(), entry, stamp };
        let before = self.shards.of(hash).write().insert(hash, slot);
        drop(before);
        if scattered(stamp, FETCHES) == 0 {
            self.policy.get(&hash);
        }
        self.policy.insert(hash, Standing { stamp, weight: u32::try_from(bytes).unwrap_or(u32::MAX) });
    }
}

/// A number below `many` that follows no pattern which requests could have, too.
fn scattered(stamp: u64, many: usize) -> usize {
    (stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % many
}

/// Takes what is a hash already for its hash.
#[derive(Default, Clone, Copy)]
struct Given(u64);
type AsGiven = BuildHasherDefault<Given>;

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only whole numbers are hashed here; anything else stays correct, and slow.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
