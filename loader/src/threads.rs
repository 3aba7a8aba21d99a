//! How the system shares cores among this process's threads.

/// From now on this thread has the processor time that nobody else wants. A low priority alone would not do: a thread that
/// has just begun keeps its core for milliseconds then, whoever wakes (EEVDF's `RUN_TO_PARITY`); an idle one never does.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    linux::set(thread_priority::NormalThreadSchedulePolicy::Idle, thread_priority::ThreadPriority::Min);
    #[cfg(not(target_os = "linux"))]
    {
        const NICE: i32 = 10;
        let _ = rustix::process::nice(NICE);
    }
}

/// From now on this thread, when it wakes, interrupts no run of a model: it waits until a core is free, or for its turn, as
/// all that has come by then is read and answered at once (`SCHED_BATCH`, sched(7)). Its share of the cores stays.
pub fn wait_turns() {
    #[cfg(target_os = "linux")]
    linux::set(thread_priority::NormalThreadSchedulePolicy::Batch, linux::usual());
}

#[cfg(target_os = "linux")]
mod linux {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };

    /// A niceness of 0: the crate has a hundred levels for forty of them.
    pub(super) fn usual() -> ThreadPriority {
        48_u8.try_into().map_or(ThreadPriority::Min, ThreadPriority::Crossplatform)
    }

    pub(super) fn set(policy: NormalThreadSchedulePolicy, priority: ThreadPriority) {
        // Where it is refused the work is no worse for it.
        let policy = ThreadSchedulePolicy::Normal(policy);
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Policy and niceness, as proc(5) has them.
    fn scheduled(change: fn()) -> (String, String) {
        let thread = std::thread::spawn(move || {
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
        assert_eq!(scheduled(wait_turns), (batch.to_owned(), nice), "turns, and no smaller share");
        assert_eq!(scheduled(give_way).0, idle);
    }
}
