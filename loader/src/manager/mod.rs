//! Makes what is there follow what is wanted, one action at a time, on a thread of its own.
//!
//! The thread waits for news (a new desired state, a load that ended, a retry that is due), asks [`policy`] for the
//! next action, takes it, and publishes a new map after each change. Loads are jobs on threads of their own, of low
//! priority: they take neither a lane's time nor this thread's, so that a download that never ends holds up nothing
//! else.
//!
//! [`policy`]: crate::policy

mod job;
mod transition;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ArtifactStore, DesiredState, ModelName};

pub use transition::{Change, Transition};

use crate::{batch::BatchLimits, gate::Gate, policy::Routes, serving_map::Serving, session::Runtime};
use worker::{News, Worker};

/// How versions are loaded.
#[derive(Debug, Clone, Copy)]
pub struct ManagerOptions {
    /// Lanes, and so sessions, of each version.
    pub lanes: usize,
    /// Sizes of each version's queue and batches.
    pub limits: BatchLimits,
    /// How long a version that is not wanted any more stays ready, for a rollback.
    pub keep_warm: Duration,
    /// What a version must fulfil to take over from the one that serves.
    pub gate: Gate,
}

/// What a manager begins with.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// What the registry wants; `None` while it cannot be reached.
    pub desired: Option<DesiredState>,
    /// What answered when the engine last ran: it stands in for what cannot be loaded now.
    pub last: BTreeMap<ModelName, Routes>,
}

/// Told of each change of who answers, on the manager's thread.
pub type Observer = Box<dyn FnMut(Transition) + Send>;

/// The thread that loads and unloads. Dropping it lets the thread end after the action it is in; what serves
/// keeps serving while the [`Serving`] lives.
#[derive(Debug)]
pub struct Manager {
    news: Sender<News>,
    serving: Serving,
}

impl Manager {
    /// Starts the thread. What is wanted is in the map, as pending, before this returns.
    ///
    /// # Errors
    /// When the operating system gives no more threads.
    pub fn start(
        store: Arc<dyn ArtifactStore>,
        runtime: Arc<dyn Runtime>,
        options: ManagerOptions,
        beginning: Beginning,
        observer: Observer,
    ) -> std::io::Result<Self> {
        let serving = Serving::default();
        let (news, inbox) = mpsc::channel();
        let job = job::Context::new(store, runtime, options);
        let mut worker = Worker::new(job, serving.clone(), observer, news.clone());
        worker.begin(beginning);
        thread::Builder::new().name("loader".to_owned()).spawn(move || {
            loop {
                while worker.step(Instant::now()) {
                    // News that came meanwhile counts before the next action.
                    match inbox.try_recv() {
                        Ok(News::Stop) | Err(TryRecvError::Disconnected) => return,
                        Ok(news) => worker.hear(news),
                        Err(TryRecvError::Empty) => {}
                    }
                }
                let message = match worker.next_wake(Instant::now()) {
                    None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(pause) => inbox.recv_timeout(pause),
                };
                match message {
                    Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(news) => worker.hear(news),
                    Err(RecvTimeoutError::Timeout) => {}
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

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.news.send(News::Stop);
    }
}
