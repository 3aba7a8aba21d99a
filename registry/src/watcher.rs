//! Looks at a directory again and again and reports each change of its desired state.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use aibuyer_domain::model::DesiredState;

use crate::directory::{Directory, Scan, ScanError};

/// A thread that watches a [`Directory`]. Dropping it lets the thread end after the look it is taking.
///
/// It polls: events of the file system are lost on network mounts, and a look at a few folders is cheap.
#[derive(Debug)]
pub struct Watcher {
    problems: Problems,
    /// Dropped with the handle, which ends the thread.
    looks: Sender<Done>,
}

/// What somebody wants to do with the result of a look.
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
    /// Starts watching: `report` is called with the first desired state and with every later one that
    /// differs. While the root cannot be read the last state stands.
    pub fn spawn(
        directory: Directory,
        interval: Duration,
        mut report: impl FnMut(DesiredState) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (looks, asked) = mpsc::channel::<Done>();
        let problems = Problems::default();
        let told = problems.clone();
        thread::Builder::new().name("registry".to_owned()).spawn(move || {
            let mut last = Last::default();
            let mut done: Option<Done> = None;
            loop {
                let desired = last.take(directory.scan());
                told.set(last.problems());
                if let Some(desired) = desired {
                    report(desired);
                }
                if let Some(done) = done.take() {
                    done(last.seen());
                }
                done = match asked.recv_timeout(interval) {
                    Ok(done) => Some(done),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
            }
        })?;
        Ok(Self { problems, looks })
    }

    /// Looks now rather than at the end of the interval. `done` is called with what was found, or with why nothing
    /// could be, after a change has been reported.
    pub fn look(&self, done: impl FnOnce(Result<&Scan, &str>) + Send + 'static) {
        // The thread outlives this handle, so the channel is open.
        let _ = self.looks.send(Box::new(done));
    }

    /// What cannot be understood.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.problems
    }
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

    use super::*;

    #[test]
    fn only_changes_are_reported_and_an_unreadable_root_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("models");
        fs::create_dir_all(root.join("m/1")).unwrap();
        let directory = Directory::new(&root);
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
        let watcher = Watcher::spawn(Directory::new(dir.path()), forever, report).unwrap();
        assert_eq!(rx.recv().unwrap(), "reported 0");
        fs::create_dir_all(dir.path().join("m/1")).unwrap();
        let seen = tx.clone();
        watcher.look(move |scan| seen.send(format!("saw {}", scan.unwrap().desired.models.len())).unwrap());
        assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], ["reported 1", "saw 1"]);
        fs::remove_dir_all(dir.path()).unwrap();
        watcher.look(move |scan| tx.send(scan.unwrap_err().to_owned()).unwrap());
        assert!(rx.recv().unwrap().starts_with("cannot read the model directory"));
    }

    #[test]
    fn the_first_state_is_reported_and_dropping_stops_the_thread() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("m/1")).unwrap();
        let (tx, rx) = mpsc::channel();
        let forever = Duration::from_secs(3600);
        let watcher = Watcher::spawn(Directory::new(dir.path()), forever, move |d| tx.send(d).unwrap()).unwrap();
        assert_eq!(rx.recv().unwrap().models.len(), 1);
        drop(watcher);
        assert!(rx.recv().is_err(), "the thread and its channel are gone");
    }
}
