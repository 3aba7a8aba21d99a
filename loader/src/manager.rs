//! Makes what is there follow what is wanted, one action at a time, on a thread of its own.
//!
//! The thread waits for news (a new desired state, a retry that is due, a drained version), asks
//! [`policy`] for the next action, takes it, and publishes a new map after each change. Loads run on this
//! thread too: they never take a lane's or the server's time.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ArtifactStore, DesiredModel, DesiredState, ModelName, Revision, ServableId, Version};

use crate::{
    batch::BatchLimits,
    error::LoadError,
    phase::{Failure, Phase},
    policy::{self, Action, Routes, Standing},
    servable::Servable,
    serving_map::{ModelEntry, Serving, ServingMap, VersionEntry},
    session::Runtime,
    stages::Located,
};

/// How versions are loaded.
#[derive(Debug, Clone, Copy)]
pub struct ManagerOptions {
    /// Lanes, and so sessions, of each version.
    pub lanes: usize,
    /// Sizes of each version's queue and batches.
    pub limits: BatchLimits,
}

/// The thread that loads and unloads. Dropping it lets the thread end after the action it is in; what serves
/// keeps serving while the [`Serving`] lives.
#[derive(Debug)]
pub struct Manager {
    news: Sender<News>,
    serving: Serving,
}

/// What the thread is told.
enum News {
    Desired(DesiredState),
    /// With what to do once it is taken note of.
    Retry(ModelName, Box<dyn FnOnce() + Send>),
}

impl Manager {
    /// Starts the thread. `desired` is in the map, as pending, before this returns.
    ///
    /// # Errors
    /// When the operating system gives no more threads.
    pub fn start(
        store: Arc<dyn ArtifactStore>,
        runtime: Arc<dyn Runtime>,
        options: ManagerOptions,
        desired: DesiredState,
    ) -> std::io::Result<Self> {
        let serving = Serving::default();
        let (news, inbox) = mpsc::channel();
        let mut worker = Worker { store, runtime, options, serving: serving.clone(), models: BTreeMap::new() };
        worker.take(desired);
        thread::Builder::new().name("loader".to_owned()).spawn(move || {
            loop {
                while worker.step(Instant::now()) {
                    // News that came during a load counts before the next action.
                    match inbox.try_recv() {
                        Ok(news) => worker.hear(news),
                        Err(TryRecvError::Empty) => {}
                        Err(TryRecvError::Disconnected) => return,
                    }
                }
                let message = match worker.next_wake(Instant::now()) {
                    None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(pause) => inbox.recv_timeout(pause),
                };
                match message {
                    Ok(news) => worker.hear(news),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { news, serving })
    }

    /// Says what should serve. Models that `desired` does not name keep serving as they are.
    pub fn desire(&self, desired: DesiredState) {
        // The thread outlives this handle, so the channel is open.
        let _ = self.news.send(News::Desired(desired));
    }

    /// Says that versions of a model that have failed shall be tried again at once, whatever the pause between
    /// tries. `taken` is called once they are pending in the map; what was desired before is in the map then, too.
    pub fn retry(&self, model: ModelName, taken: impl FnOnce() + Send + 'static) {
        let _ = self.news.send(News::Retry(model, Box::new(taken)));
    }

    /// The map that requests resolve in.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.serving
    }
}

struct Worker {
    store: Arc<dyn ArtifactStore>,
    runtime: Arc<dyn Runtime>,
    options: ManagerOptions,
    serving: Serving,
    models: BTreeMap<ModelName, Model>,
}

#[derive(Default)]
struct Model {
    desired: DesiredModel,
    standing: BTreeMap<Version, Standing>,
    servables: BTreeMap<Version, Servable>,
    /// Lanes of versions that drain.
    draining: BTreeMap<Version, Weak<()>>,
    routes: Routes,
}

impl Model {
    /// The registry no longer knows the model: what serves goes on, what never did is forgotten. Whether
    /// anything is left.
    fn disappeared(&mut self, name: &ModelName) -> bool {
        tracing::warn!(model = %name, "no longer in the registry; what serves of it keeps serving");
        self.standing.retain(|_, s| matches!(s.phase, Phase::Ready | Phase::Draining));
        self.desired.versions.retain(|version, _| self.standing.contains_key(version));
        self.desired.fallback.clear();
        !self.standing.is_empty()
    }
}

impl Worker {
    fn hear(&mut self, news: News) {
        match news {
            News::Desired(desired) => self.take(desired),
            News::Retry(model, taken) => {
                self.retry(&model);
                taken();
            }
        }
    }

    /// Forgets the failures of the versions that are wanted of a model.
    fn retry(&mut self, name: &ModelName) {
        let Some(model) = self.models.get_mut(name) else { return };
        for (version, standing) in &mut model.standing {
            if matches!(standing.phase, Phase::Failed(_)) && model.desired.versions.contains_key(version) {
                standing.phase = Phase::Pending;
            }
        }
        self.publish();
    }

    fn take(&mut self, desired: DesiredState) {
        self.models.retain(|name, model| desired.models.contains_key(name) || model.disappeared(name));
        for (name, desired) in desired.models {
            let model = self.models.entry(name).or_default();
            for version in desired.versions.keys() {
                model
                    .standing
                    .entry(*version)
                    .or_insert(Standing { phase: Phase::Pending, revision: Revision::default() });
            }
            // A version that is no longer wanted and never served is forgotten.
            model.standing.retain(|version, standing| {
                desired.versions.contains_key(version)
                    || desired.fallback.contains_key(version)
                    || matches!(standing.phase, Phase::Ready | Phase::Draining | Phase::Loading)
            });
            model.desired = desired;
        }
        self.publish();
    }

    /// Takes at most one action; whether another may follow.
    fn step(&mut self, now: Instant) -> bool {
        self.retire();
        let next = self.models.iter().find_map(|(name, model)| {
            let action = policy::next_action(&model.desired, &model.standing, &model.routes, now)?;
            Some((name.clone(), action))
        });
        match next {
            None => return false,
            Some((name, Action::Load(version))) => self.load(&ServableId { name, version }),
            Some((name, Action::Drain(version))) => self.drain(&ServableId { name, version }),
        }
        self.publish();
        true
    }

    /// How long nothing will happen by itself; `None` for ever.
    fn next_wake(&self, now: Instant) -> Option<Duration> {
        const DRAIN_CHECK: Duration = Duration::from_millis(100);
        let draining = self.models.values().any(|m| !m.draining.is_empty()).then_some(DRAIN_CHECK);
        let retries = self.models.values().filter_map(|m| policy::next_retry(&m.desired, &m.standing));
        retries.map(|at| at.saturating_duration_since(now)).chain(draining).min()
    }

    fn load(&mut self, id: &ServableId) {
        let Some(model) = self.models.get_mut(&id.name) else { return };
        let DesiredModel { versions, fallback, .. } = &model.desired;
        let revision = versions.get(&id.version).or(fallback.get(&id.version)).copied().unwrap_or_default();
        let attempts = match model.standing.get(&id.version) {
            Some(Standing { phase: Phase::Failed(failure), revision: tried }) if *tried == revision => failure.attempts,
            _ => 0,
        };
        model.standing.insert(id.version, Standing { phase: Phase::Loading, revision });
        self.publish();
        let started = Instant::now();
        let result = self.build(id);
        let Some(model) = self.models.get_mut(&id.name) else { return };
        let phase = match result {
            Ok(servable) => {
                let millis = started.elapsed().as_millis();
                tracing::info!(model = %id.name, version = %id.version, millis, bytes = servable.bytes, "version ready");
                model.servables.insert(id.version, servable);
                Phase::Ready
            }
            Err(error) => {
                let attempts = attempts.saturating_add(1);
                let pause = policy::backoff(attempts);
                let (check, reason) = (error.check(), error.to_string());
                tracing::error!(
                    model = %id.name, version = %id.version, check, %reason, attempts, retry_in = ?pause,
                    "version refused; it is retried by itself"
                );
                Phase::Failed(Failure { check, reason, attempts, retry_at: Instant::now() + pause })
            }
        };
        model.standing.insert(id.version, Standing { phase, revision });
    }

    fn build(&self, id: &ServableId) -> Result<Servable, LoadError> {
        let stages = || -> Result<Servable, LoadError> {
            let ManagerOptions { lanes, limits } = self.options;
            let located = Located { id: id.clone() };
            let verified = located.fetch(self.store.as_ref())?.verify()?;
            let warmed =
                verified.open(self.runtime.as_ref(), lanes, &|| true)?.warm(limits.max_batch_rows, &|| true)?;
            Servable::start(warmed, limits)
        };
        // A model that breaks the loader must not end it.
        catch_unwind(AssertUnwindSafe(stages)).unwrap_or(Err(LoadError::Panicked))
    }

    fn drain(&mut self, id: &ServableId) {
        let Some(model) = self.models.get_mut(&id.name) else { return };
        if let Some(servable) = model.servables.remove(&id.version) {
            tracing::info!(model = %id.name, version = %id.version, "version draining");
            model.draining.insert(id.version, servable.batcher().lanes());
        }
        if let Some(standing) = model.standing.get_mut(&id.version) {
            standing.phase = Phase::Draining;
        }
    }

    /// Forgets versions whose last session is gone.
    fn retire(&mut self) {
        let mut changed = false;
        for (name, model) in &mut self.models {
            let gone: Vec<Version> =
                model.draining.iter().filter(|(_, lanes)| lanes.strong_count() == 0).map(|(v, _)| *v).collect();
            for version in gone {
                tracing::info!(model = %name, %version, "version retired");
                model.draining.remove(&version);
                model.standing.remove(&version);
                changed = true;
            }
        }
        if changed {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let mut map = ServingMap::default();
        for (name, model) in &mut self.models {
            model.routes = policy::routes(&model.desired, &model.standing, &model.routes);
            let entry = |(version, standing): (&Version, &Standing)| {
                let servable = model.servables.get(version).cloned();
                (*version, VersionEntry { phase: standing.phase.clone(), servable })
            };
            let versions = model.standing.iter().map(entry).collect();
            let DesiredModel { default, aliases, .. } = &model.desired;
            let wanted = Routes { default: *default, aliases: aliases.clone() };
            map.models.insert(name.clone(), ModelEntry { versions, routes: model.routes.clone(), wanted });
        }
        self.serving.publish(map);
    }
}
