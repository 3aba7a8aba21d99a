//! The promotion log: who answers what since when, and what was refused and why. Kept on disk, a line of JSON for
//! each change, so that an engine that starts anew knows what answered last.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use aibuyer_domain::model::{ModelName, Version};
use aibuyer_loader::{Change, Transition, policy::Routes};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::SourceConfig;

/// Changes of each model that are kept.
const KEPT: usize = 100;
/// Lines after which the file is written anew with what is kept.
const LONGEST: usize = 10_000;

/// One change, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// RFC 3339, UTC.
    pub(crate) at: String,
    pub(crate) model: String,
    pub(crate) version: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened to the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum What {
    Ready {
        millis: u64,
    },
    Serves {
        /// Absent for requests that name neither alias nor version.
        alias: Option<String>,
        before: Option<u64>,
    },
    Refused {
        check: String,
        reason: String,
    },
    Forgotten {
        alias: Option<String>,
    },
    Retired,
}

impl Entry {
    fn new(transition: &Transition) -> Self {
        let what = match &transition.change {
            Change::Ready { took } => What::Ready { millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) },
            Change::Serves { alias, before } => {
                What::Serves { alias: alias.as_ref().map(ToString::to_string), before: before.map(Version::get) }
            }
            Change::Forgotten { alias } => What::Forgotten { alias: alias.as_ref().map(ToString::to_string) },
            Change::Refused { check, reason, .. } => {
                What::Refused { check: (*check).to_owned(), reason: reason.clone() }
            }
            Change::Retired => What::Retired,
        };
        Self {
            at: timestamp(transition.at),
            model: transition.model.to_string(),
            version: transition.version.get(),
            what,
        }
    }

    /// The change in words.
    pub(crate) fn text(&self) -> String {
        let version = self.version;
        match &self.what {
            What::Ready { millis } => format!("version {version} ready after {millis} ms"),
            What::Serves { alias, before } => {
                let whom = alias.as_deref().unwrap_or("default");
                let before = before.map_or_else(String::new, |before| format!(" in place of version {before}"));
                format!("version {version} answers as {whom}{before}")
            }
            What::Refused { check, reason } => format!("version {version} refused by the {check} check: {reason}"),
            What::Forgotten { alias } => {
                let whom = alias.as_deref().unwrap_or("default");
                format!("version {version} answers as {whom} no more: the registry had no {whom} at the start")
            }
            What::Retired => format!("version {version} unloaded"),
        }
    }
}

fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// The log.
#[derive(Debug)]
pub(crate) struct Promotions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    models: BTreeMap<String, History>,
    path: PathBuf,
    /// Absent while the file cannot be written: the log is in memory only then, and each change tries anew.
    file: Option<File>,
    lines: usize,
}

/// What is known of one model.
#[derive(Debug, Default)]
struct History {
    recent: VecDeque<Entry>,
    /// The last change of each route, by alias; the default's under `None`.
    routes: BTreeMap<Option<String>, Entry>,
}

impl History {
    fn take(&mut self, entry: Entry) {
        match &entry.what {
            What::Serves { alias, .. } => drop(self.routes.insert(alias.clone(), entry.clone())),
            What::Forgotten { alias } => drop(self.routes.remove(alias)),
            What::Ready { .. } | What::Refused { .. } | What::Retired => {}
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(entry);
    }

    /// Whether an entry says nothing new: a version that is tried again and again fails again and again.
    fn knows(&self, entry: &Entry) -> bool {
        let of_version = self.recent.iter().rev().find(|known| known.version == entry.version);
        matches!(entry.what, What::Refused { .. }) && of_version.is_some_and(|known| known.what == entry.what)
    }

    fn last(&self) -> Routes {
        let mut last = Routes::default();
        for (alias, entry) in &self.routes {
            let version = Version::new(entry.version);
            match alias {
                None => last.default = version,
                Some(alias) => {
                    if let (Ok(alias), Some(version)) = (alias.parse(), version) {
                        last.aliases.insert(alias, version);
                    }
                }
            }
        }
        last
    }
}

impl Promotions {
    /// Opens the log of a registry in the storage folder. Where that cannot be written, a warning says so and the log
    /// is lost with the process.
    pub(crate) fn open(storage: &Path, source: &SourceConfig) -> Self {
        let path = storage.join(file_name(source));
        let mut state = State { path: path.clone(), ..State::default() };
        match fs::read_to_string(&path) {
            Ok(text) => state.read(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "promotion log cannot be read"),
        }
        let file = fs::create_dir_all(storage).and_then(|()| rewritten(&path, &state));
        match file {
            Ok(file) => state.file = Some(file),
            Err(error) => tracing::warn!(
                path = %path.display(), %error,
                "promotion log cannot be written: a restart will not know what answered last; set storage.path"
            ),
        }
        Self { state: Mutex::new(state) }
    }

    /// Where each model's routes led last.
    pub(crate) fn last(&self) -> BTreeMap<ModelName, Routes> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.models.iter().filter_map(|(name, history)| Some((name.parse().ok()?, history.last()))).collect()
    }

    /// Takes note of a change.
    pub(crate) fn record(&self, transition: &Transition) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.record(&Entry::new(transition));
    }

    /// The last changes of a model, the latest first.
    pub(crate) fn recent(&self, model: &str) -> Vec<Entry> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.models.get(model).map_or_else(Vec::new, |history| history.recent.iter().rev().cloned().collect())
    }

    /// Since when a model's alias, or its default, has led where it leads.
    pub(crate) fn since(&self, model: &str, alias: Option<&str>) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Some(state.models.get(model)?.routes.get(&alias.map(str::to_owned))?.at.clone())
    }
}

impl State {
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            // A line that was cut off by a crash is no reason to forget the others.
            if let Ok(entry) = serde_json::from_str::<Entry>(line) {
                self.models.entry(entry.model.clone()).or_default().take(entry);
            }
        }
    }

    fn record(&mut self, entry: &Entry) {
        let history = self.models.entry(entry.model.clone()).or_default();
        if history.knows(entry) {
            return;
        }
        history.take(entry.clone());
        if let Err(error) = self.write(entry) {
            // What is on the disk now may be half a line: all of it is written anew with the next change.
            self.file = None;
            tracing::warn!(path = %self.path.display(), %error, "promotion log cannot be written");
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        match &mut self.file {
            Some(file) if self.lines < LONGEST => {
                file.write_all(&line(entry)?)?;
                file.sync_data()?;
                self.lines += 1;
            }
            _ => {
                self.file = Some(rewritten(&self.path, self)?);
                self.lines = 0;
            }
        }
        Ok(())
    }
}

/// Another registry's models have nothing to do with these, whatever their names.
fn file_name(source: &SourceConfig) -> String {
    let source = match source {
        SourceConfig::Directory(path) => {
            fs::canonicalize(path).unwrap_or_else(|_| path.clone()).to_string_lossy().into_owned()
        }
        SourceConfig::Mlflow(mlflow) => format!("{} {:?}", mlflow.url.trim_end_matches('/'), mlflow.workspace),
    };
    let hash: String = Sha256::digest(source).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("promotions-{hash}.jsonl")
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

/// The file, written anew with what is kept, open for more.
fn rewritten(path: &Path, state: &State) -> io::Result<File> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    for history in state.models.values() {
        // Routes first, of which the recent changes may know no more.
        let old = history.routes.values().filter(|entry| !history.recent.contains(entry));
        for entry in old.chain(&history.recent) {
            file.write_all(&line(entry)?)?;
        }
    }
    file.sync_all()?;
    fs::rename(&aside, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn transition(version: u64, change: Change) -> Transition {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_330_753_425);
        Transition { at, model: "ctr".parse().unwrap(), version: Version::new(version).unwrap(), change }
    }

    fn serves(version: u64, alias: Option<&str>) -> Transition {
        transition(version, Change::Serves { alias: alias.map(|a| a.parse().unwrap()), before: None })
    }

    fn refused(version: u64, reason: &str, attempts: u32) -> Transition {
        transition(version, Change::Refused { check: "golden", reason: reason.to_owned(), attempts })
    }

    fn source() -> SourceConfig {
        SourceConfig::Directory("models".into())
    }

    #[test]
    fn what_answered_last_is_known_after_a_restart_even_after_a_torn_write() {
        let dir = tempfile::tempdir().unwrap();
        let log = Promotions::open(dir.path(), &source());
        assert_eq!(log.last(), BTreeMap::new());
        for change in [serves(1, None), serves(1, Some("champion")), serves(2, None), serves(2, Some("champion"))] {
            log.record(&change);
        }
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"at":"2026-"#).unwrap();
        let last = Promotions::open(dir.path(), &source()).last();
        let routes = &last["ctr"];
        assert_eq!(routes.default.map(Version::get), Some(2));
        assert_eq!(routes.aliases.len(), 1);
        let other = SourceConfig::Directory("elsewhere".into());
        assert_eq!(Promotions::open(dir.path(), &other).last(), BTreeMap::new(), "another registry's models");
    }

    #[test]
    fn many_failures_crowd_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = Promotions::open(dir.path(), &source());
        log.record(&serves(1, Some("champion")));
        for attempt in 1..50 {
            log.record(&refused(2, "differs", attempt));
        }
        assert_eq!(log.recent("ctr").len(), 2, "the same failure again is no news");
        for n in 0..u32::try_from(2 * KEPT).unwrap() {
            log.record(&refused(2, &format!("differs by {n}"), n));
        }
        assert_eq!(log.recent("ctr").len(), KEPT);
        let again = Promotions::open(dir.path(), &source());
        assert_eq!(again.last()["ctr"].aliases.len(), 1);
        assert_eq!(again.since("ctr", Some("champion")).as_deref(), Some("2026-11-22T06:59:13.425Z"));
        assert_eq!(again.recent("ctr"), log.recent("ctr"));
    }

    #[test]
    fn a_route_that_is_forgotten_stays_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let log = Promotions::open(dir.path(), &source());
        log.record(&serves(1, Some("old")));
        log.record(&serves(2, Some("champion")));
        log.record(&transition(1, Change::Forgotten { alias: Some("old".parse().unwrap()) }));
        let aliases = Promotions::open(dir.path(), &source()).last().remove("ctr").unwrap().aliases;
        assert_eq!(aliases.into_keys().map(|a| a.to_string()).collect::<Vec<_>>(), ["champion"]);
    }

    #[test]
    fn a_log_that_could_not_be_written_is_whole_once_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let storage = dir.path().join("storage");
        fs::write(&storage, "in the way").unwrap();
        let log = Promotions::open(&storage, &source());
        log.record(&serves(1, Some("champion")));
        fs::remove_file(&storage).unwrap();
        fs::create_dir(&storage).unwrap();
        log.record(&serves(2, Some("next")));
        assert_eq!(Promotions::open(&storage, &source()).last()["ctr"].aliases.len(), 2);
    }

    #[test]
    fn without_a_disk_the_log_is_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Promotions::open(file.path(), &source());
        log.record(&serves(1, None));
        assert_eq!(log.recent("ctr")[0].text(), "version 1 answers as default");
    }
}
