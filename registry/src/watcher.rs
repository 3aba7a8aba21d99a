//! Looks at a directory again and again and reports each change of its desired state.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, SyncSender},
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
    _running: SyncSender<()>,
}

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
        let (running, stopped) = mpsc::sync_channel::<()>(0);
        let problems = Problems::default();
        let told = problems.clone();
        thread::Builder::new().name("registry".to_owned()).spawn(move || {
            let mut last = Last::default();
            loop {
                let desired = last.take(directory.scan());
                told.set(last.problems());
                if let Some(desired) = desired {
                    report(desired);
                }
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { problems, _running: running })
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
