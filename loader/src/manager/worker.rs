//! The manager's thread: what it knows and what it does.

use std::{
    collections::BTreeMap,
    sync::{Weak, mpsc::Sender},
    time::{Duration, Instant, SystemTime},
};

use aibuyer_domain::model::{DesiredModel, DesiredState, ModelName, Revision, ServableId, Version};

use super::{
    Beginning, ManagerOptions, Observer,
    job::{Context, Job},
    transition::{self, Change, Transition},
};
use crate::{
    error::LoadError,
    gate::{self, Gate},
    memory,
    phase::{Failure, Phase},
    policy::{self, Action, Loads, Routes, Snapshot, Standing, Verdicts},
    servable::Servable,
    serving_map::{ModelEntry, Serving, ServingMap, VersionEntry},
    stages::Prepared,
};

/// Loads under way at once: enough that one slow download holds up nothing, few enough not to crowd the registry.
const MOST_LOADS: usize = 4;

/// What the thread is told.
pub(super) enum News {
    Desired(DesiredState),
    /// With what to do once it is taken note of.
    Retry(ModelName, Box<dyn FnOnce() + Send>),
    Loaded(ServableId, u64, Box<Result<Prepared, LoadError>>),
    Stop,
}

pub(super) struct Worker {
    job: Context,
    serving: Serving,
    observer: Observer,
    /// For the results of jobs.
    news: Sender<News>,
    models: BTreeMap<ModelName, Model>,
    /// Jobs started so far.
    jobs: u64,
}

struct Load {
    job: Job,
    began: Instant,
    /// Loads that had failed in a row before this one.
    attempts: u32,
}

#[derive(Default)]
struct Model {
    desired: DesiredModel,
    standing: BTreeMap<Version, Standing>,
    servables: BTreeMap<Version, Servable>,
    /// Loads under way.
    jobs: BTreeMap<Version, Load>,
    /// Why the new files of a version that serves were refused.
    refused: BTreeMap<Version, Failure>,
    /// Lanes of versions that drain.
    draining: BTreeMap<Version, Weak<()>>,
    routes: Routes,
    /// Where each route led last.
    last: Routes,
    /// What came of each comparison since the registry's wishes last changed.
    verdicts: Verdicts,
}

impl Model {
    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { desired: &self.desired, standing: &self.standing, last: &self.last, verdicts: &self.verdicts }
    }

    /// Takeovers that the registry wants, candidate and incumbent, both ready. A lower number is the way back from a
    /// version that has disappointed, and nothing may hold that up.
    fn takeovers(&self) -> Vec<(Version, Version)> {
        let ready = |version: &Version| self.servables.contains_key(version);
        let pairs =
            self.snapshot().wishes().filter_map(|(wanted, last)| Some((wanted.filter(ready)?, last.filter(ready)?)));
        pairs.filter(|(wanted, last)| wanted > last).collect()
    }

    /// Whether `candidate` must not serve at all: because of the files of the same version that it would replace, or
    /// because no alias that it is wanted for may move to it.
    fn refuses(&self, candidate: &Servable, gate: &Gate) -> Result<(), LoadError> {
        let version = candidate.id.version;
        if let Some(before) = self.servables.get(&version) {
            return gate::check(candidate, before, gate);
        }
        let wishes = self.snapshot().wishes().filter(|(wanted, _)| *wanted == Some(version));
        let mut refusal = Ok(());
        for (_, last) in wishes {
            let incumbent = last.filter(|last| *last < version).and_then(|last| self.servables.get(&last));
            match incumbent.map_or(Ok(()), |incumbent| gate::check(candidate, incumbent, gate)) {
                Ok(()) => return Ok(()),
                error => refusal = error,
            }
        }
        refusal
    }

    fn take(&mut self, desired: DesiredModel) {
        for version in desired.versions.keys() {
            self.standing.entry(*version).or_insert_with(Standing::pending);
        }
        if self.desired != desired {
            self.verdicts.clear();
        }
        self.desired = desired;
        self.forget();
    }

    /// Forgets versions that are no longer wanted and never served.
    fn forget(&mut self) {
        let forgotten: Vec<Version> = self
            .standing
            .iter()
            .filter(|(version, s)| {
                matches!(s.phase, Phase::Pending | Phase::Failed(_)) && !self.snapshot().keeps(**version)
            })
            .map(|(version, _)| *version)
            .collect();
        for version in forgotten {
            self.standing.remove(&version);
        }
    }

    /// The registry no longer knows the model: what serves goes on, what never did is forgotten. Whether
    /// anything is left.
    fn disappeared(&mut self, name: &ModelName) -> bool {
        if self.desired != DesiredModel::default() {
            tracing::warn!(model = %name, "no longer in the registry; what serves of it keeps serving");
        }
        self.take(DesiredModel::default());
        !self.standing.is_empty()
    }
}

impl Worker {
    pub(super) fn new(job: Context, serving: Serving, observer: Observer, news: Sender<News>) -> Self {
        Self { job, serving, observer, news, models: BTreeMap::new(), jobs: 0 }
    }

    /// Takes what is wanted, and of what answered last whatever the registry still names; all of it where the
    /// registry cannot be reached.
    pub(super) fn begin(&mut self, Beginning { desired, mut last }: Beginning) {
        let mut forgotten = Vec::new();
        if let Some(desired) = &desired {
            last.retain(|name, last| {
                let Some(model) = desired.models.get(name) else { return false };
                // What was deleted is forgotten here and only here; of a model that is named but not shown it may be
                // the permission that is gone.
                if *model != DesiredModel::default() {
                    let before = last.clone();
                    last.aliases.retain(|alias, _| model.aliases.contains_key(alias));
                    last.default = last.default.filter(|_| model.default.is_some());
                    forgotten.extend(transition::forgotten(name, &before, last));
                }
                true
            });
        }
        for (id, change) in forgotten {
            self.tell(&id, change);
        }
        for (name, last) in last {
            self.models.insert(name, Model { last, ..Model::default() });
        }
        match desired {
            Some(desired) => self.take(desired),
            None => {
                for model in self.models.values_mut() {
                    model.standing.extend(model.last.versions().map(|version| (version, Standing::pending())));
                }
                self.publish();
            }
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Desired(desired) => self.take(desired),
            News::Retry(model, taken) => {
                self.retry(&model);
                taken();
            }
            News::Loaded(id, number, result) => self.loaded(&id, number, *result),
            News::Stop => {}
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
        model.verdicts.clear();
        self.publish();
    }

    fn take(&mut self, desired: DesiredState) {
        self.models.retain(|name, model| desired.models.contains_key(name) || model.disappeared(name));
        for (name, desired) in desired.models {
            self.models.entry(name).or_default().take(desired);
        }
        self.publish();
    }

    /// Takes at most one action; whether another may follow.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        self.retire();
        let loads = self.loads();
        let actions = self.models.iter().filter_map(|(name, model)| {
            let action = model.snapshot().next_action(now, self.job.options.keep_warm, loads)?;
            let failed = |version| matches!(model.standing.get(&version).map(|s| &s.phase), Some(Phase::Failed(_)));
            // What failed before comes after what has not been tried, whatever the models are called.
            let again = matches!(action, Action::Load(version, _) if failed(version));
            Some((again, name.clone(), action))
        });
        let next = actions.min_by_key(|(again, ..)| *again).map(|(_, name, action)| (name, action));
        match next {
            None => return false,
            Some((name, Action::Load(version, revision))) => self.load(&ServableId { name, version }, revision, now),
            Some((name, Action::Cancel(version))) => self.cancel(&ServableId { name, version }),
            Some((name, Action::Drain(version))) => self.drain(&ServableId { name, version }),
        }
        self.publish();
        true
    }

    /// Which loads may begin. The end of each is news, so nobody need wake to look.
    fn loads(&self) -> Loads {
        match MOST_LOADS.saturating_sub(self.models.values().map(|m| m.jobs.len()).sum()) {
            0 => Loads::None,
            1 => Loads::FirstTries,
            _ => Loads::Any,
        }
    }

    /// How long nothing will happen by itself; `None` for ever.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Duration> {
        const DRAIN_CHECK: Duration = Duration::from_millis(100);
        let draining = self.models.values().any(|m| !m.draining.is_empty()).then_some(DRAIN_CHECK);
        let loads = self.loads();
        let due = self.models.values().filter_map(|m| m.snapshot().next_wake(self.job.options.keep_warm, loads));
        due.map(|at| at.saturating_duration_since(now)).chain(draining).min()
    }

    fn load(&mut self, id: &ServableId, revision: Revision, now: Instant) {
        self.jobs += 1;
        let number = self.jobs;
        let Some(model) = self.models.get_mut(&id.name) else { return };
        let standing = model.standing.entry(id.version).or_insert_with(Standing::pending);
        let attempts = match &standing.phase {
            Phase::Failed(failure) if standing.revision == revision => failure.attempts,
            Phase::Ready if standing.revision == revision => model.refused.get(&id.version).map_or(0, |f| f.attempts),
            _ => 0,
        };
        (standing.revision, standing.reload_at) = (revision, None);
        // A version that serves goes on serving while new files of it are tried.
        if standing.phase != Phase::Ready {
            standing.phase = Phase::Loading;
        }
        let (news, done) = (self.news.clone(), id.clone());
        let report = move |result| {
            // Nobody listens any more when the engine stops.
            let _ = news.send(News::Loaded(done, number, Box::new(result)));
        };
        match self.job.spawn(number, id.clone(), report) {
            Ok(job) => {
                model.jobs.insert(id.version, Load { job, began: now, attempts });
            }
            Err(error) => self.refuse(id, attempts, &LoadError::Thread(error)),
        }
    }

    fn cancel(&mut self, id: &ServableId) {
        let Some(model) = self.models.get_mut(&id.name) else { return };
        tracing::info!(model = %id.name, version = %id.version, "load given up: another version is wanted");
        model.jobs.remove(&id.version);
        model.standing.remove(&id.version);
    }

    fn loaded(&mut self, id: &ServableId, number: u64, result: Result<Prepared, LoadError>) {
        let Some(model) = self.models.get_mut(&id.name) else { return };
        // The result of a load that was given up.
        if model.jobs.get(&id.version).is_none_or(|load| load.job.number != number) {
            return;
        }
        let Some(Load { began, attempts, .. }) = model.jobs.remove(&id.version) else { return };
        let ManagerOptions { limits, gate, .. } = self.job.options;
        // Lanes are started here: threads inherit their priority, and a load's is low.
        let started = result.and_then(|prepared| Servable::start(prepared, limits));
        match started.and_then(|servable| model.refuses(&servable, &gate).map(|()| servable)) {
            Ok(servable) => {
                let took = began.elapsed();
                let (millis, bytes) = (took.as_millis(), servable.bytes);
                tracing::info!(model = %id.name, version = %id.version, millis, bytes, "version ready");
                model.servables.insert(id.version, servable);
                model.refused.remove(&id.version);
                model.verdicts.retain(|(candidate, incumbent), _| ![candidate, incumbent].contains(&&id.version));
                if let Some(standing) = model.standing.get_mut(&id.version) {
                    standing.phase = Phase::Ready;
                }
                self.tell(id, Change::Ready { took });
            }
            Err(error) => self.refuse(id, attempts, &error),
        }
        self.publish();
        self.collect();
    }

    fn refuse(&mut self, id: &ServableId, attempts: u32, error: &LoadError) {
        let attempts = attempts.saturating_add(1);
        let pause = policy::backoff(attempts);
        let (check, reason) = (error.check(), error.to_string());
        tracing::error!(
            model = %id.name, version = %id.version, check, %reason, attempts, retry_in = ?pause,
            "version refused; it is retried by itself"
        );
        let failure = Failure { check, reason: reason.clone(), attempts, retry_at: Instant::now() + pause };
        if let Some(model) = self.models.get_mut(&id.name)
            && let Some(standing) = model.standing.get_mut(&id.version)
        {
            if standing.phase == Phase::Ready {
                standing.reload_at = Some(failure.retry_at);
                model.refused.insert(id.version, failure);
            } else {
                standing.phase = Phase::Failed(failure);
            }
        }
        self.tell(id, Change::Refused { check, reason, attempts });
    }

    fn drain(&mut self, id: &ServableId) {
        let Some(model) = self.models.get_mut(&id.name) else { return };
        // New files of it would come too late.
        model.jobs.remove(&id.version);
        model.refused.remove(&id.version);
        if let Some(servable) = model.servables.remove(&id.version) {
            tracing::info!(model = %id.name, version = %id.version, "version draining");
            model.draining.insert(id.version, servable.alive());
        }
        if let Some(standing) = model.standing.get_mut(&id.version) {
            standing.phase = Phase::Draining;
        }
    }

    /// Forgets versions whose last session is gone.
    fn retire(&mut self) {
        let mut gone = Vec::new();
        for (name, model) in &mut self.models {
            model.draining.retain(|version, lanes| {
                let alive = lanes.strong_count() > 0;
                if !alive {
                    gone.push(ServableId { name: name.clone(), version: *version });
                    model.standing.remove(version);
                }
                alive
            });
        }
        if gone.is_empty() {
            return;
        }
        for id in &gone {
            let resident_kb = memory::resident_kb();
            tracing::info!(model = %id.name, version = %id.version, resident_kb, "version retired");
            self.tell(id, Change::Retired);
        }
        self.collect();
        self.publish();
    }

    /// Lets the store clean up behind versions that are here no more.
    fn collect(&self) {
        let ids = self.models.iter().flat_map(|(name, model)| {
            let versions = model.standing.keys().copied().chain(model.last.versions());
            versions.map(|version| ServableId { name: name.clone(), version })
        });
        self.job.store().collect(&ids.collect::<Vec<_>>());
    }

    /// Holds versions that are to take over against those that serve, each pair once.
    fn compare(&mut self) {
        let gate = self.job.options.gate;
        let mut barred = Vec::new();
        for (name, model) in &mut self.models {
            for (candidate, incumbent) in model.takeovers() {
                if model.verdicts.contains_key(&(candidate, incumbent)) {
                    continue;
                }
                let verdict = gate::check(&model.servables[&candidate], &model.servables[&incumbent], &gate);
                model.verdicts.insert((candidate, incumbent), verdict.is_ok());
                match verdict {
                    Ok(()) => drop(model.refused.remove(&candidate)),
                    Err(error) => barred.push((ServableId { name: name.clone(), version: candidate }, error)),
                }
            }
        }
        for (id, error) in barred {
            self.bar(&id, &error);
        }
    }

    /// Takes note of a version that is ready and may not take over: tried again when the registry's wishes change.
    fn bar(&mut self, id: &ServableId, error: &LoadError) {
        let (check, reason) = (error.check(), error.to_string());
        tracing::error!(model = %id.name, version = %id.version, check, %reason, "version may not take over");
        if let Some(model) = self.models.get_mut(&id.name) {
            let failure = Failure { check, reason: reason.clone(), attempts: 1, retry_at: Instant::now() };
            model.refused.insert(id.version, failure);
        }
        self.tell(id, Change::Refused { check, reason, attempts: 1 });
    }

    fn publish(&mut self) {
        self.compare();
        let (mut map, now) = (ServingMap::default(), Instant::now());
        let mut moved = Vec::new();
        for (name, model) in &mut self.models {
            let routes = model.snapshot().routes();
            moved.extend(transition::moves(name, &model.last, &routes));
            model.last.overlay(&routes);
            model.forget();
            for (version, standing) in &mut model.standing {
                let used = routes.lead_to(*version) || model.desired.versions.contains_key(version);
                standing.unused_since = match standing.unused_since {
                    since if !used && standing.phase == Phase::Ready => since.or(Some(now)),
                    _ => None,
                };
            }
            let entry = |(version, standing): (&Version, &Standing)| {
                let servable = model.servables.get(version).cloned();
                let refused = model.refused.get(version).cloned();
                (*version, VersionEntry { phase: standing.phase.clone(), servable, refused })
            };
            let versions = model.standing.iter().map(entry).collect();
            let DesiredModel { default, aliases, .. } = &model.desired;
            let mut wanted = model.last.clone();
            wanted.overlay(&Routes { default: *default, aliases: aliases.clone() });
            let lost = routes.aliases.keys().filter(|alias| !aliases.contains_key(alias)).cloned().collect();
            model.routes = routes;
            map.models.insert(name.clone(), ModelEntry { versions, routes: model.routes.clone(), wanted, lost });
        }
        self.serving.publish(map);
        for (id, change) in moved {
            if let Change::Serves { alias, before } = &change {
                let alias = alias.as_ref().map_or("default", |alias| alias.as_str());
                let before = before.map(Version::get);
                tracing::info!(model = %id.name, version = %id.version, alias, before, "version answers");
            }
            self.tell(&id, change);
        }
    }

    fn tell(&mut self, id: &ServableId, change: Change) {
        let ServableId { name: model, version } = id.clone();
        (self.observer)(Transition { at: SystemTime::now(), model, version, change });
    }
}
