//! One load, on a thread of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use aibuyer_domain::model::{ArtifactStore, ServableId};

use super::ManagerOptions;
use crate::{
    error::LoadError,
    session::Runtime,
    stages::{Checked, Located, Prepared},
};

/// Below what serves: where both want a core, a load gets about a tenth of it.
const NICE: i32 = 10;

/// What every load needs.
#[derive(Clone)]
pub(super) struct Context {
    store: Arc<dyn ArtifactStore>,
    runtime: Arc<dyn Runtime>,
    pub(super) options: ManagerOptions,
    /// Held while a model is opened and measured: two at once would measure each other.
    alone: Arc<Mutex<()>>,
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Job {
    /// Tells it from another load of the same version.
    pub(super) number: u64,
    wanted: Arc<AtomicBool>,
}

impl Drop for Job {
    /// Nobody waits any more: the thread ends at its next look.
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}

impl Context {
    pub(super) fn new(store: Arc<dyn ArtifactStore>, runtime: Arc<dyn Runtime>, options: ManagerOptions) -> Self {
        Self { store, runtime, options, alone: Arc::default() }
    }

    pub(super) fn store(&self) -> &dyn ArtifactStore {
        self.store.as_ref()
    }

    /// Starts a load; `done` gets its result on the load's thread.
    pub(super) fn spawn(
        &self,
        number: u64,
        id: ServableId,
        done: impl FnOnce(Result<Prepared, LoadError>) + Send + 'static,
    ) -> std::io::Result<Job> {
        let wanted = Arc::new(AtomicBool::new(true));
        let (context, asked) = (self.clone(), Arc::clone(&wanted));
        thread::Builder::new().name(format!("load {id}")).spawn(move || {
            // Refused where the system knows no such thing; the load is no worse for it.
            let _ = rustix::process::nice(NICE);
            let wanted = || asked.load(Ordering::Relaxed);
            // A model that breaks the loader must not end it.
            let result = catch_unwind(AssertUnwindSafe(|| context.run(id, &wanted)));
            done(result.unwrap_or(Err(LoadError::Panicked)));
        })?;
        Ok(Job { number, wanted })
    }

    fn run(&self, id: ServableId, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Prepared, LoadError> {
        let ManagerOptions { lanes, limits, .. } = self.options;
        let checked = Located { id }.fetch(self.store.as_ref(), wanted)?.verify()?;
        let measured = matches!(checked, Checked::Graph(_));
        let _alone = measured.then(|| self.alone.lock().unwrap_or_else(PoisonError::into_inner));
        checked.prepare(self.runtime.as_ref(), lanes, limits.max_batch_rows, wanted)
    }
}
