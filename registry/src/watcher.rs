//! Looks at a registry again and again and reports each change of its desired state.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::DesiredState;

use crate::source::{Registry, Scan, ScanError};

/// Events that one look answers.
const AT_ONCE: usize = 1000;
/// Models that are looked at one by one; of more all are.
const MOST_ALONE: usize = 8;

/// A thread that watches a [`Registry`]. Dropping it lets the thread end after the look it is taking.
///
/// It polls, and polls alone are the truth: events of a file system are lost on network mounts, and webhooks are
/// lost with the network. An event makes it look sooner, at the one model that it names; what
/// it says of it is not believed.
#[derive(Debug)]
pub struct Watcher {
    problems: Problems,
    /// Dropped with the handle, which ends the thread.
    looks: Sender<Look>,
}

/// A look that is asked for.
enum Look {
    /// At everything, and what is done with the result.
    All(Done),
    /// At one model.
    Model(String),
}

type Done = Box<dyn FnOnce(Result<&Scan, &str>) + Send>;

/// What the registry holds that cannot be understood, as of the last look.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<Vec<String>>>);

impl Problems {
    /// One text for each problem.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, problems: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problems;
    }
}

impl Watcher {
    /// Starts watching after a first look: `report` is called with every desired state that differs from the one
    /// before. While the registry cannot be looked at the last state stands.
    ///
    /// # Errors
    /// When the operating system gives no more threads.
    pub fn spawn(
        mut registry: impl Registry + 'static,
        first: Result<Scan, ScanError>,
        interval: Duration,
        mut report: impl FnMut(DesiredState) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (looks, asked) = mpsc::channel::<Look>();
        let problems = Problems::default();
        let told = problems.clone();
        thread::Builder::new().name("registry".to_owned()).spawn(move || {
            let mut last = Last::default();
            // Whoever took the first look knows what is desired.
            let _ = last.take(first);
            told.set(last.problems());
            let mut next = Instant::now() + jittered(interval);
            loop {
                let first = match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(look) => Some(look),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let (mut all, mut models, mut done) = (Instant::now() >= next, BTreeSet::new(), Vec::new());
                // One look answers everybody who asked before it began.
                for look in first.into_iter().chain(asked.try_iter().take(AT_ONCE)) {
                    match look {
                        Look::Model(name) => drop(models.insert(name)),
                        Look::All(asker) => {
                            all = true;
                            done.push(asker);
                        }
                    }
                }
                all |= last.scan.is_none() || models.len() > MOST_ALONE;
                let looks: Vec<_> = if all { vec![None] } else { models.into_iter().map(Some).collect() };
                for model in looks {
                    let scan = match (&model, &last.scan) {
                        (Some(model), Some(known)) => registry.scan_model(model, known),
                        _ => registry.scan(),
                    };
                    let desired = last.take(scan);
                    told.set(last.problems());
                    if let Some(desired) = desired {
                        report(desired);
                    }
                }
                if all {
                    next = Instant::now() + jittered(interval);
                }
                for done in done {
                    done(last.seen());
                }
            }
        })?;
        Ok(Self { problems, looks })
    }

    /// Looks now rather than at the end of the interval. `done` is called with what was found, or with why nothing
    /// could be, after a change has been reported.
    pub fn look(&self, done: impl FnOnce(Result<&Scan, &str>) + Send + 'static) {
        // The thread outlives this handle, so the channel is open.
        let _ = self.looks.send(Look::All(Box::new(done)));
    }

    /// Looks at one model now, and at the others at their time.
    pub fn look_at(&self, model: String) {
        let _ = self.looks.send(Look::Model(model));
    }

    /// What cannot be understood.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.problems
    }
}

/// The interval, up to a tenth more or less: engines that were started together must not ask together.
fn jittered(interval: Duration) -> Duration {
    // Seeded anew each time.
    let random = RandomState::new().build_hasher().finish() >> 40;
    #[allow(clippy::cast_precision_loss)] // 24 bits
    let share = random as f64 / f64::from(1 << 24);
    interval.mul_f64(0.9 + 0.2 * share)
}

/// What was seen last, so that only changes are reported.
#[derive(Debug, Default)]
struct Last {
    scan: Option<Scan>,
    error: Option<String>,
}

impl Last {
    /// What is wrong now.
    fn problems(&self) -> Vec<String> {
        let scanned = self.scan.iter().flat_map(|scan| &scan.problems);
        self.error.iter().chain(scanned).cloned().collect()
    }

    /// What the last look saw.
    fn seen(&self) -> Result<&Scan, &str> {
        match (&self.error, &self.scan) {
            (Some(error), _) => Err(error),
            (None, Some(scan)) => Ok(scan),
            (None, None) => Err("the registry has not been looked at"),
        }
    }

    /// Takes the next look's result; the desired state if it is new. Logs each problem once.
    fn take(&mut self, scan: Result<Scan, ScanError>) -> Option<DesiredState> {
        match scan {
            Err(error) => {
                let error = error.to_string();
                if self.error.as_ref() != Some(&error) {
                    tracing::error!(%error, "registry unreadable; what serves keeps serving");
                    self.error = Some(error);
                }
                None
            }
            Ok(scan) => {
                if self.error.take().is_some() {
                    tracing::info!("registry readable again");
                }
                let known = self.scan.as_ref();
                for problem in scan.problems.iter().filter(|p| known.is_none_or(|k| !k.problems.contains(p))) {
                    tracing::warn!(%problem, "registry problem");
                }
                let new = known.is_none_or(|k| k.desired != scan.desired);
                let desired = new.then(|| scan.desired.clone());
                self.scan = Some(scan);
                desired
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use aibuyer_domain::model::{Alias, DesiredModel};

    use super::*;
    use crate::directory::Directory;

    fn directory(root: &std::path::Path) -> Directory {
        Directory::new(root, Alias::champion())
    }

    #[test]
    fn only_changes_are_reported_and_an_unreadable_root_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("models");
        fs::create_dir_all(root.join("m/1")).unwrap();
        let mut directory = directory(&root);
        let mut last = Last::default();
        assert_eq!(last.take(directory.scan()).unwrap().models.len(), 1);
        assert_eq!(last.take(directory.scan()), None);
        fs::rename(&root, dir.path().join("away")).unwrap();
        assert_eq!(last.take(directory.scan()), None);
        fs::rename(dir.path().join("away"), &root).unwrap();
        assert_eq!(last.take(directory.scan()), None);
        fs::create_dir_all(root.join("m/2")).unwrap();
        assert!(last.take(directory.scan()).is_some());
    }

    #[test]
    fn a_look_that_is_asked_for_comes_at_once_and_after_its_report() {
        let dir = tempfile::tempdir().unwrap();
        let (tx, rx) = mpsc::channel();
        let reports = tx.clone();
        let forever = Duration::from_secs(3600);
        let report = move |d: DesiredState| reports.send(format!("reported {}", d.models.len())).unwrap();
        let mut directory = directory(dir.path());
        let first = directory.scan();
        let watcher = Watcher::spawn(directory, first, forever, report).unwrap();
        fs::create_dir_all(dir.path().join("m/1")).unwrap();
        let seen = tx.clone();
        watcher.look(move |scan| seen.send(format!("saw {}", scan.unwrap().desired.models.len())).unwrap());
        assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], ["reported 1", "saw 1"]);
        fs::remove_dir_all(dir.path()).unwrap();
        watcher.look(move |scan| tx.send(scan.unwrap_err().to_owned()).unwrap());
        assert!(rx.recv().unwrap().starts_with("cannot read the model directory"));
    }

    #[test]
    fn what_was_unreachable_at_the_start_is_reported_once_it_can_be_seen_and_dropping_stops_the_thread() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("m/1")).unwrap();
        let (tx, rx) = mpsc::channel();
        let first = Err(ScanError("down".to_owned()));
        let report = move |d| tx.send(d).unwrap();
        let watcher = Watcher::spawn(directory(dir.path()), first, Duration::from_millis(1), report).unwrap();
        assert_eq!(rx.recv().unwrap().models.len(), 1);
        drop(watcher);
        assert!(rx.recv().is_err(), "the thread and its channel are gone");
    }

    #[test]
    fn a_model_is_looked_at_alone_and_the_rest_at_its_time() {
        /// Counts looks; every look finds a model more.
        struct Counting(mpsc::Sender<String>, u64);
        impl Registry for Counting {
            fn scan(&mut self) -> Result<Scan, ScanError> {
                self.0.send("all".to_owned()).unwrap();
                self.scan_model("all", &Scan::default())
            }
            fn scan_model(&mut self, name: &str, last: &Scan) -> Result<Scan, ScanError> {
                self.1 += 1;
                let mut scan = last.clone();
                scan.desired.models.insert(format!("{name}-{}", self.1).parse().unwrap(), DesiredModel::default());
                self.0.send(name.to_owned()).unwrap();
                Ok(scan)
            }
        }
        let (tx, looks) = mpsc::channel();
        let (reports, reported) = mpsc::channel();
        let report = move |desired: DesiredState| reports.send(desired.models.len()).unwrap();
        let first = Err(ScanError("down".to_owned()));
        let watcher = Watcher::spawn(Counting(tx, 0), first, Duration::from_secs(3600), report).unwrap();
        watcher.look_at("a".to_owned());
        assert_eq!(looks.recv().unwrap(), "all", "nothing is known yet");
        assert_eq!((looks.recv().unwrap().as_str(), reported.recv().unwrap()), ("all", 1));
        watcher.look_at("b".to_owned());
        assert_eq!((looks.recv().unwrap().as_str(), reported.recv().unwrap()), ("b", 2));
    }

    #[test]
    fn a_flood_of_events_does_not_keep_the_poll_from_its_time() {
        struct Polled(mpsc::Sender<()>);
        impl Registry for Polled {
            fn scan(&mut self) -> Result<Scan, ScanError> {
                let _ = self.0.send(());
                Ok(Scan::default())
            }
            fn scan_model(&mut self, _: &str, last: &Scan) -> Result<Scan, ScanError> {
                Ok(last.clone())
            }
        }
        let (tx, polls) = mpsc::channel();
        let first = Ok(Scan::default());
        let watcher = Watcher::spawn(Polled(tx), first, Duration::from_millis(1), |_| {}).unwrap();
        while polls.try_recv().is_err() {
            watcher.look_at("m".to_owned());
        }
    }

    #[test]
    fn intervals_differ_by_a_tenth_at_most() {
        let second = Duration::from_secs(1);
        let all: Vec<Duration> = (0..100).map(|_| jittered(second)).collect();
        assert!(all.iter().all(|d| (second.mul_f64(0.9)..=second.mul_f64(1.1)).contains(d)), "{all:?}");
        assert!(all.iter().any(|d| *d != all[0]));
    }
}
