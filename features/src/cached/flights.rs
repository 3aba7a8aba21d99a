//! Queries under way: the misses of all callers merge into few, and each key is in one at a time.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
    time::Instant,
};

use super::{Shared, entries::Entry};
use crate::{Lookup, store::StoreError, view::EntityKey};

/// Keys of one query.
const BATCH: usize = 2048;
/// How long a query that callers wait for waits for company: until the runtime's timer ticks next, which it does each
/// millisecond.
const WINDOW: Duration = Duration::from_micros(1);
/// The same of a query that nobody waits for. Rows that were fetched together are stale together: each request that asks for
/// some would make a query.
const REFRESH_WINDOW: Duration = Duration::from_millis(50);
/// Queries at a time.
const QUERIES: usize = 4;
/// Keys that may be waited for; beyond it lookups are refused.
const MOST_IN_FLIGHT: usize = 65_536;
/// How long a stale row that is being fetched stays without another try, and all of them after a failure: a store that is
/// down, or slow, is not asked in vain by each.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What a query brought, for all who wait for it.
pub(super) type Outcome = Result<Arc<HashMap<EntityKey, Entry>>, StoreError>;

/// A place in a query.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) id: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Flight {
    /// Waits for it to land.
    pub(super) async fn outcome(mut self, view: &'static str) -> Outcome {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(StoreError::Broken(view))),
            Err(_) => Err(StoreError::Broken(view)),
        }
    }
}

/// What became of a key that was missed.
pub(super) enum Joined {
    /// It came in the meantime.
    Known(Lookup),
    /// It is on its way.
    Flight(Flight),
    /// Too many are.
    Refused,
}

/// Why a key is fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A caller waits for it.
    Missed,
    /// Its row still answers.
    Stale,
}

/// A query that still takes keys.
struct Open {
    flight: Flight,
    keys: Vec<EntityKey>,
    full: oneshot::Sender<Vec<EntityKey>>,
}

struct Desk {
    next: u64,
    in_flight: HashMap<EntityKey, Flight>,
    /// Queries that take keys, by need.
    missed: Option<Open>,
    stale: Option<Open>,
    /// No stale row is fetched again before.
    refresh_from: Instant,
}

/// All queries of a view.
pub(super) struct Flights {
    shared: Arc<Shared>,
    desk: Mutex<Desk>,
    queries: Semaphore,
    on: Handle,
}

impl Flights {
    pub(super) fn new(shared: Arc<Shared>, on: Handle) -> Self {
        let desk = Desk { next: 0, in_flight: HashMap::new(), missed: None, stale: None, refresh_from: Instant::now() };
        Self { shared, desk: Mutex::new(desk), queries: Semaphore::new(QUERIES), on }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Each change of it is whole at every point where a panic could be.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let desk = self.desk();
        desk.in_flight.is_empty() && desk.missed.is_none() && desk.stale.is_none()
    }

    /// Finds a place for each key that was missed.
    pub(super) fn join<'a>(self: &Arc<Self>, missed: impl Iterator<Item = &'a str>, now: Instant) -> Vec<Joined> {
        let mut starts = Vec::new();
        let mut desk = self.desk();
        let joined = missed.map(|key| {
            if let Some(flight) = desk.in_flight.get(key) {
                return Joined::Flight(flight.clone());
            }
            // A query fills the cache before it leaves the desk, so what landed since the miss is seen here.
            if let Some(lookup) = self.shared.get(key, now) {
                return Joined::Known(lookup);
            }
            match EntityKey::new(key) {
                Ok(key) => desk.add(self, key, Need::Missed, &mut starts).map_or(Joined::Refused, Joined::Flight),
                Err(_) => Joined::Known(Lookup::Absent),
            }
        });
        let joined = joined.collect();
        drop(desk);
        self.start(starts);
        joined
    }

    /// Has keys whose rows are stale fetched again. Whether it sees to it: not soon after a failure.
    pub(super) fn refresh<'a>(self: &Arc<Self>, stale: impl Iterator<Item = &'a str>, now: Instant) -> bool {
        let mut starts = Vec::new();
        let mut desk = self.desk();
        if now < desk.refresh_from {
            return false;
        }
        for key in stale {
            let landed = || matches!(self.shared.get(key, now), Some(Lookup::Present(_)));
            if !desk.in_flight.contains_key(key)
                && !landed()
                && let Ok(key) = EntityKey::new(key)
            {
                let _ = desk.add(self, key, Need::Stale, &mut starts);
            }
        }
        drop(desk);
        self.start(starts);
        true
    }

    /// Not under the desk's lock: on a runtime that has ended, spawning drops the query, which goes to the desk.
    fn start(&self, starts: Vec<Start>) {
        for (pilot, full) in starts {
            self.on.spawn(pilot.fly(full));
        }
    }
}

type Start = (Pilot, oneshot::Receiver<Vec<EntityKey>>);

impl Desk {
    fn open(&mut self, need: Need) -> &mut Option<Open> {
        match need {
            Need::Missed => &mut self.missed,
            Need::Stale => &mut self.stale,
        }
    }

    /// Puts a key that is not in flight into the open query.
    fn add(&mut self, flights: &Arc<Flights>, key: EntityKey, need: Need, starts: &mut Vec<Start>) -> Option<Flight> {
        if self.in_flight.len() >= MOST_IN_FLIGHT {
            return None;
        }
        let mut open = self.open(need).take().unwrap_or_else(|| {
            let id = self.next;
            self.next += 1;
            let ((sender, outcome), (full, filled)) = (watch::channel(None), oneshot::channel());
            starts.push((Pilot { flights: Arc::clone(flights), id, need, outcome: sender, landed: false }, filled));
            Open { flight: Flight { id, outcome }, keys: Vec::new(), full }
        });
        let flight = open.flight.clone();
        open.keys.push(key.clone());
        self.in_flight.insert(key, flight.clone());
        if open.keys.len() < BATCH {
            *self.open(need) = Some(open);
        } else {
            // If nobody takes them, the pilot is gone and has cleared its keys.
            let _ = open.full.send(open.keys);
        }
        Some(flight)
    }

    /// Takes the keys of a query that is still open.
    fn close(&mut self, id: u64, need: Need) -> Option<Vec<EntityKey>> {
        let open = self.open(need).take_if(|open| open.flight.id == id)?;
        Some(open.keys)
    }
}

/// Runs one query. However it ends, its keys leave the desk.
struct Pilot {
    flights: Arc<Flights>,
    id: u64,
    need: Need,
    outcome: watch::Sender<Option<Outcome>>,
    landed: bool,
}

impl Pilot {
    async fn fly(mut self, mut full: oneshot::Receiver<Vec<EntityKey>>) {
        let window = match self.need {
            Need::Missed => WINDOW,
            Need::Stale => REFRESH_WINDOW,
        };
        let filled = tokio::select! {
            biased;
            keys = &mut full => keys.ok(),
            () = tokio::time::sleep(window) => None,
        };
        let closed = filled.or_else(|| self.flights.desk().close(self.id, self.need));
        let keys = match closed {
            Some(keys) => keys,
            // It was filled in this moment.
            None => full.await.unwrap_or_default(),
        };
        let flights = Arc::clone(&self.flights);
        let Ok(_permit) = flights.queries.acquire().await else { return };
        let shared = &flights.shared;
        let fetched = Instant::now();
        let outcome = shared.store.fetch(&shared.view, &keys).await.map(|mut rows| {
            let entry = |key: EntityKey| {
                let row = rows.remove(&key);
                (key, Entry { fetched, row })
            };
            Arc::new(keys.iter().cloned().map(entry).collect::<HashMap<_, _>>())
        });
        shared.counts.queried(outcome.as_ref().ok().map(|entries| entries.len()));
        if let Ok(entries) = &outcome {
            for (key, entry) in entries.iter() {
                shared.entries.insert(key, entry.clone());
            }
        }
        self.land(&keys, outcome);
    }

    fn land(&mut self, keys: &[EntityKey], outcome: Outcome) {
        let mut desk = self.flights.desk();
        for key in keys {
            desk.in_flight.remove(key);
        }
        if outcome.is_err() {
            desk.refresh_from = Instant::now() + PAUSE;
        }
        drop(desk);
        self.outcome.send_replace(Some(outcome));
        self.landed = true;
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        if !mem::replace(&mut self.landed, true) {
            let mut desk = self.flights.desk();
            desk.close(self.id, self.need);
            desk.in_flight.retain(|_, flight| flight.id != self.id);
        }
    }
}
