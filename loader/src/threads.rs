//! How the system shares cores among this process's threads.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// How many live.
static BACKLOGS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// Says, as long as it lives, that requests read sooner are answered no sooner: enough of them wait.
#[derive(Debug)]
pub struct Backlog(());

impl Backlog {
    /// From now on.
    #[must_use]
    pub fn begin() -> Self {
        BACKLOGS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        BACKLOGS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For a thread that reads requests, each time before it sleeps: how it will wake.
///
/// Usually at once, at the expense of whatever has the core. During a [`Backlog`] each packet would interrupt the run of a
/// model for nothing: then it wakes when a core is free or its turn has come, and finds more to do at a time. Its share of
/// the cores stays what it is.
pub fn before_sleep() {
    let waits = BACKLOGS.load(Ordering::Relaxed) > 0;
    // A system call, so none is made that changes nothing.
    if WAITS.replace(waits) != waits {
        wait_turns(waits);
    }
}

fn wait_turns(waits: bool) {
    #[cfg(target_os = "linux")]
    policy::set(if waits { libc::SCHED_BATCH } else { libc::SCHED_OTHER });
    #[cfg(not(target_os = "linux"))]
    let _ = waits;
}

/// From now on this thread has the processor time that nobody else wants. A low priority alone would not do: a thread that
/// has just begun keeps its core for milliseconds then, whoever wakes (EEVDF's `RUN_TO_PARITY`); an idle one never does.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    policy::set(libc::SCHED_IDLE);
    #[cfg(not(target_os = "linux"))]
    {
        const NICE: i32 = 10;
        let _ = rustix::process::nice(NICE);
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod policy {
    /// Of this thread; see sched(7). Its niceness stays.
    pub(super) fn set(policy: libc::c_int) {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the pointer is to a whole `sched_param`, which the call only reads.
        let _ = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
        // Where it is refused the work is no worse for it.
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Policy and niceness, as proc(5) has them.
    fn scheduled(change: fn()) -> (String, String) {
        let thread = std::thread::spawn(move || {
            rustix::process::nice(3).unwrap();
            change();
            std::fs::read_to_string("/proc/thread-self/stat").unwrap()
        });
        let stat = thread.join().unwrap();
        // The fields after the name, which is in brackets and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[38].to_owned(), fields[16].to_owned())
    }

    #[test]
    fn a_thread_is_scheduled_as_it_asked() {
        let (usual, batch, idle) = ("0", "3", "5");
        let (policy, nice) = scheduled(|| ());
        assert_eq!(policy, usual);
        assert_eq!(scheduled(|| wait_turns(true)), (batch.to_owned(), nice.clone()), "turns, and no smaller share");
        let back = || {
            wait_turns(true);
            wait_turns(false);
        };
        assert_eq!(scheduled(back), (usual.to_owned(), nice));
        assert_eq!(scheduled(give_way).0, idle);
        let during = || {
            let _backlog = Backlog::begin();
            before_sleep();
        };
        assert_eq!(scheduled(during).0, batch);
    }
}
