//! Which sessions on devices are open: a process must not end before them.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Sessions on devices that are open in this process.
static OPEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of them, for as long as it is kept.
pub(super) struct Open;

impl Open {
    pub(super) fn new() -> Self {
        *OPEN.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *OPEN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        OPEN.1.notify_all();
    }
}

/// Waits until no session is open on a GPU; false if some are after `patience`. A process that ends before is aborted by
/// CUDA's libraries, which are gone when the session wants to give back what it has.
#[must_use]
pub fn wait_closed(patience: Duration) -> bool {
    let open = OPEN.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = OPEN.1.wait_timeout_while(open, patience, |open| *open > 0);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
}
