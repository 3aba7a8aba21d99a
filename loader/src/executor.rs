//! A small pool for work that is long on a processor and not a model's batch: forecasts, budgets. It has threads of its
//! own, of low priority, and a queue of its own, so that a storm of such work cannot delay a click-through rate.
//!
//! The queue is bounded in rows (dates, campaigns: what the work grows with) and ordered by deadline. Work whose
//! deadline passed or whose caller left is dropped before it begins.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use aibuyer_domain::ErrorKind;
use tokio::sync::oneshot;

use crate::threads;

/// Why work was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// No room in the queue.
    #[error(
        "{waiting} rows of work are waiting, {rows} more would be over the {capacity} that may; retry with back-off"
    )]
    Full {
        /// Rows of the work.
        rows: usize,
        /// Rows waiting.
        waiting: usize,
        /// Rows that may wait.
        capacity: usize,
    },
    /// More than the queue could ever hold.
    #[error("{rows} rows are more than the queue of {capacity} rows can hold: send fewer in one request")]
    TooLarge {
        /// Rows of the work.
        rows: usize,
        /// Rows that may wait.
        capacity: usize,
    },
    /// The deadline passed before a thread was free, or before the work was done.
    #[error("the deadline passed before the work was done: allow more time or ask for less")]
    DeadlineExceeded,
    /// The work broke; the text is for the log.
    #[error("the work panicked: {0}")]
    Panicked(String),
}

impl ExecutorError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } => ErrorKind::Overloaded,
            Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Self::Panicked(_) => ErrorKind::Internal,
        }
    }
}

/// The pool. Dropping the last handle lets its threads finish what waits.
#[derive(Debug, Clone)]
pub struct Executor(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.news.notify_all();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: BinaryHeap<Reverse<Work>>,
    rows: usize,
    /// Work taken in so far: among equal deadlines the first comes first.
    taken: u64,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of work.
struct Work {
    deadline: Instant,
    number: u64,
    rows: usize,
    /// Given whether there is still time.
    run: Box<dyn FnOnce(bool) + Send>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("deadline", &self.deadline).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl PartialEq for Work {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Work {}

impl PartialOrd for Work {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Work {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.deadline, self.number).cmp(&(other.deadline, other.number))
    }
}

impl Executor {
    /// Starts `threads` threads over a queue in which `capacity` rows may wait.
    ///
    /// # Errors
    /// When the operating system gives no more threads.
    pub fn start(threads: usize, capacity: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), news: Condvar::new(), capacity });
        let handle = Handle { shared: Arc::clone(&shared) };
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("executor {number}")).spawn(move || {
                threads::give_way();
                while let Some(work) = next(&shared) {
                    (work.run)(Instant::now() < work.deadline);
                }
            })?;
        }
        Ok(Self(Arc::new(handle)))
    }

    /// Rows that wait.
    #[must_use]
    pub fn waiting_rows(&self) -> usize {
        self.0.shared.state().rows
    }

    /// Does `work`, which grows with `rows`, before `deadline` or not at all. Dropping the future drops the work if it
    /// has not begun.
    ///
    /// # Errors
    /// [`ExecutorError`] says whether a retry makes sense.
    pub async fn run<T: Send + 'static>(
        &self,
        rows: usize,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExecutorError> {
        let (reply, answer) = oneshot::channel();
        let run = move |in_time: bool| {
            if reply.is_closed() {
                return;
            }
            let result = match in_time {
                // Work that breaks must not take its thread along.
                true => catch_unwind(AssertUnwindSafe(work)).map_err(|panic| ExecutorError::Panicked(text(&*panic))),
                false => Err(ExecutorError::DeadlineExceeded),
            };
            let _ = reply.send(result);
        };
        self.push(rows, deadline, Box::new(run))?;
        // Lost only with its thread, which does not end before its work.
        answer.await.unwrap_or_else(|_| Err(ExecutorError::Panicked("its thread is gone".to_owned())))
    }

    fn push(&self, rows: usize, deadline: Instant, run: Box<dyn FnOnce(bool) + Send>) -> Result<(), ExecutorError> {
        let Shared { capacity, .. } = *self.0.shared;
        if rows > capacity {
            return Err(ExecutorError::TooLarge { rows, capacity });
        }
        let mut state = self.0.shared.state();
        let waiting = state.rows;
        if waiting + rows > capacity {
            return Err(ExecutorError::Full { rows, waiting, capacity });
        }
        state.rows += rows;
        state.taken += 1;
        let number = state.taken;
        state.queue.push(Reverse(Work { deadline, number, rows, run }));
        drop(state);
        self.0.shared.news.notify_one();
        Ok(())
    }
}

/// The most urgent work; `None` when there will be no more.
fn next(shared: &Shared) -> Option<Work> {
    let mut state = shared.state();
    loop {
        if let Some(Reverse(work)) = state.queue.pop() {
            state.rows -= work.rows;
            return Some(work);
        }
        if state.closed {
            return None;
        }
        state = shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What a panic said.
fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    /// A pool of one thread that is held up until the sender is dropped.
    fn held(capacity: usize) -> (Executor, mpsc::Sender<()>) {
        let executor = Executor::start(1, capacity).unwrap();
        let (hold, gate) = mpsc::channel::<()>();
        let (begun, started) = mpsc::channel();
        let run = Box::new(move |_: bool| {
            begun.send(()).unwrap();
            let _ = gate.recv();
        });
        executor.push(1, Instant::now(), run).unwrap();
        started.recv().unwrap();
        (executor, hold)
    }

    #[tokio::test]
    async fn the_most_urgent_comes_first_and_late_work_is_never_begun() {
        let (executor, hold) = held(100);
        let (log, order) = mpsc::channel();
        let now = Instant::now();
        let work = |name: &'static str, deadline| {
            let log = log.clone();
            executor.run(1, deadline, move || log.send(name).unwrap())
        };
        let late = now.checked_sub(Duration::from_secs(1)).unwrap();
        let all = async {
            tokio::join!(work("later", now + 2 * LONG), work("soon", now + LONG), work("too late", late), async {
                tokio::task::yield_now().await;
                drop(hold);
            })
        };
        let (later, soon, too_late, ()) = all.await;
        assert_eq!((later, soon, too_late), (Ok(()), Ok(()), Err(ExecutorError::DeadlineExceeded)));
        drop(log);
        assert_eq!(order.iter().collect::<Vec<_>>(), ["soon", "later"]);
        assert_eq!(executor.waiting_rows(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_rows() {
        let (executor, hold) = held(10);
        let deadline = Instant::now() + LONG;
        let mut waiting = Box::pin(executor.run(8, deadline, || 1));
        assert!(futures_poll(&mut waiting).is_none());
        let full = executor.run(3, deadline, || 2).await;
        assert_eq!(full, Err(ExecutorError::Full { rows: 3, waiting: 8, capacity: 10 }));
        assert_eq!(executor.run(11, deadline, || 3).await, Err(ExecutorError::TooLarge { rows: 11, capacity: 10 }));
        drop(hold);
        assert_eq!(waiting.await, Ok(1));
    }

    #[tokio::test]
    async fn work_of_callers_who_left_is_dropped_and_broken_work_breaks_nothing_else() {
        let (executor, hold) = held(10);
        let deadline = Instant::now() + LONG;
        let mut left = Box::pin(executor.run(1, deadline, || -> () { unreachable!("its caller has left") }));
        assert!(futures_poll(&mut left).is_none());
        drop(left);
        drop(hold);
        let broken = executor.run(1, deadline, || -> () { panic!("as told") }).await;
        assert_eq!(broken, Err(ExecutorError::Panicked("as told".to_owned())));
        assert_eq!(executor.run(1, deadline, || 7).await, Ok(7));
    }

    /// Polls once.
    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
