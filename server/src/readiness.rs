//! Whether the engine as a whole may take traffic.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aibuyer_loader::ServingMap;
use tokio::sync::watch;

/// Ready once every model has been tried and one can answer; until told to stop.
///
/// A model that fails to load does not keep the others from serving, and one that comes later and fails
/// takes nothing away. Overload never shows here.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    started: Arc<AtomicBool>,
    stopping: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { started: Arc::default(), stopping: watch::Sender::new(false) }
    }
}

impl Readiness {
    /// Whether the engine is ready, seen with this map.
    pub(crate) fn look(&self, map: &ServingMap) -> bool {
        let answering = map.models.values().any(|m| m.ready());
        if answering && map.models.values().all(|m| m.ready() || m.settled()) {
            self.started.store(true, Ordering::Relaxed);
        }
        answering && self.started.load(Ordering::Relaxed) && !self.stopping()
    }

    /// From now on the engine is not ready.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether it has been told to stop.
    pub(crate) fn stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until it is told to stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }
}
