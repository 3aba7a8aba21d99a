//! The entries: a map that reads see, and moka, which decides who stays.
//!
//! A read of moka costs many times that of a map. So a map serves the reads, and moka keeps the policy alone: weights
//! against the capacity, popularity (TinyLFU), time to live. What it evicts its listener takes out of the map. While more
//! than half of the capacity is taken, it is told of a sample of the reads and fetches.
//!
//! Reads of the map (papaya) write nothing: no lock and no count of references. What they wait for is memory, and without
//! such a write between one key and the next the processor fetches the entries of several at once.
//!
//! Both name an entry by the hash of its key, computed once; of two keys of one hash the later takes the place, and
//! the earlier is fetched again. An entry is in the map before moka hears of it, so that what moka evicts at once
//! is found; and each has a stamp, so that news of an entry that was replaced does not remove its successor. While a key
//! is inserted by one caller at a time, as flights do, whatever is in the map is in moka or about to be.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{notification::RemovalCause, sync::Cache};
use papaya::{HashMap, LocalGuard};
use tokio::time::Instant;

use crate::view::{EntityKey, FeatureRow};

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
    pub(super) row: Option<FeatureRow>,
}

/// An entry in its place.
pub(super) struct Slot {
    key: EntityKey,
    pub(super) entry: Entry,
    stamp: u64,
    /// When it was last seen to that a newer one is fetched, in ns since `Entries::epoch`; zero: never.
    refreshed: AtomicU64,
}

impl Slot {
    /// Whether it is this key's, and not that of another with the same hash.
    fn is_of(&self, key: &str) -> bool {
        self.key.as_str() == key
    }
}

/// What moka holds of an entry.
#[derive(Clone, Copy)]
struct Standing {
    stamp: u64,
    weight: u32,
}

/// A cache's entries.
pub(super) struct Entries {
    map: Arc<HashMap<u64, Slot, AsGiven>>,
    policy: Cache<u64, Standing, AsGiven>,
    hashes: foldhash::quality::RandomState,
    stamps: AtomicU64,
    capacity: u64,
    epoch: Instant,
}

impl Entries {
    /// None yet. They may take about `capacity` bytes, and stay for `time_to_live` at most.
    pub(super) fn new(capacity: u64, time_to_live: Duration) -> Self {
        let map = Arc::new(HashMap::with_hasher(AsGiven::default()));
        let at = Arc::clone(&map);
        let evicted = move |hash: Arc<u64>, standing: Standing, cause: RemovalCause| {
            // Its successor is in the map already.
            if cause != RemovalCause::Replaced {
                let same = |_: &u64, slot: &Slot| slot.stamp == standing.stamp;
                let _ = at.pin().remove_if(&*hash, same);
            }
        };
        let policy = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, standing: &Standing| standing.weight)
            .time_to_live(time_to_live)
            .eviction_listener(evicted)
            .build_with_hasher(AsGiven::default());
        Self {
            map,
            policy,
            hashes: foldhash::quality::RandomState::default(),
            stamps: AtomicU64::new(0),
            capacity,
            epoch: Instant::now(),
        }
    }

    /// For reads: what is read meanwhile stays where it is.
    pub(super) fn pin(&self) -> Pinned<'_> {
        Pinned { entries: self, guard: self.map.guard() }
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
        self.map.len()
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
        let slot = Slot { key: key.clone(), entry, stamp, refreshed: AtomicU64::new(0) };
        self.map.pin().insert(hash, slot);
        if scattered(stamp, FETCHES) == 0 {
            self.policy.get(&hash);
        }
        self.policy.insert(hash, Standing { stamp, weight: u32::try_from(bytes).unwrap_or(u32::MAX) });
    }
}

/// Entries that are being read. What is taken out meanwhile is freed later.
pub(super) struct Pinned<'a> {
    entries: &'a Entries,
    guard: LocalGuard<'a>,
}

impl Pinned<'_> {
    /// The key's entry, if there is one.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        let slot = self.slot(self.entries.hashes.hash_one(key))?;
        slot.is_of(key).then_some(&slot.entry)
    }

    /// The entry of each key, where there is one. One short loop after the other: the processor looks ahead over more keys
    /// of a short one, and fetches what they need from memory at once.
    pub(super) fn all<'a>(&'a self, keys: &'a [&str]) -> impl Iterator<Item = Option<&'a Slot>> {
        let hashes: Vec<u64> = keys.iter().map(|key| self.entries.hashes.hash_one(*key)).collect();
        let slots: Vec<Option<&Slot>> = hashes.into_iter().map(|hash| self.slot(hash)).collect();
        slots.into_iter().zip(keys).map(|(slot, key)| slot.filter(|slot| slot.is_of(key)))
    }

    /// Whether it is time to fetch a stale entry again, if that was last seen to so long ago or never.
    pub(super) fn is_due(&self, slot: &Slot, now: Instant, pause: Duration) -> bool {
        let last = slot.refreshed.load(Ordering::Relaxed);
        last == 0 || self.nanos(now).saturating_sub(last) >= u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes note that it is being fetched.
    pub(super) fn refreshing(&self, slot: &Slot, now: Instant) {
        slot.refreshed.store(self.nanos(now), Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.entries.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    fn slot(&self, hash: u64) -> Option<&Slot> {
        self.entries.map.get(&hash, &self.guard)
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
