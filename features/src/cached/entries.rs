//! The entries: a sharded map that reads see, and moka, which decides who stays.
//!
//! A read of moka costs many times that of a map. So a map serves the reads, and moka keeps the policy alone: weights
//! against the capacity, popularity (TinyLFU), time to live. It is told of a sample of the reads, and what it evicts its
//! listener takes out of the map.
//!
//! Both name an entry by the hash of its key, computed once; of two keys of one hash the later takes the place, and
//! the earlier is fetched again. An entry is in the map before moka hears of it, so that what moka evicts at once
//! is found; and each has a stamp, so that news of an entry that was replaced does not remove its successor. While a key
//! is inserted by one caller at a time, as flights do, whatever is in the map is in moka or about to be.

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
const SAMPLE: usize = 64;
/// What an entry takes beside its key and row, in the map and in moka, about.
const ENTRY_BYTES: usize = 320;

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
        Self { shards, policy, hashes: foldhash::quality::RandomState::default(), stamps: AtomicU64::new(0) }
    }

    /// What `judge` makes of the key's entry, if there is one.
    pub(super) fn read<T>(&self, key: &str, judge: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        let hash = self.hashes.hash_one(key);
        let shard = self.shards.of(hash).read();
        let slot = shard.get(&hash)?;
        if slot.key.as_str() == key { judge(&slot.entry) } else { None }
    }

    /// Tells moka of some of the keys that were read. `turn` differs from call to call.
    pub(super) fn note(&self, keys: &[&str], turn: u64) {
        // Which ones follows no pattern that requests could have, too.
        let first = (turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SAMPLE;
        for key in keys.iter().skip(first).step_by(SAMPLE) {
            self.policy.get(&self.hashes.hash_one(key));
        }
    }

    /// Puts an entry in the place of any that the key has.
    pub(super) fn insert(&self, key: &EntityKey, entry: Entry) {
        let hash = self.hashes.hash_one(key.as_str());
        let bytes = ENTRY_BYTES + key.as_str().len() + entry.row.as_ref().map_or(0, |row| row.bytes());
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { key: key.clone(), entry, stamp };
        let before = self.shards.of(hash).write().insert(hash, slot);
        drop(before);
        self.policy.insert(hash, Standing { stamp, weight: u32::try_from(bytes).unwrap_or(u32::MAX) });
    }
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
