//! Artifacts on disk: `<root>/artifacts/<model>/<version>-<key>/`, each with `files/` and `manifest.json`.
//!
//! A version is gathered in `<root>/incoming/` and renamed into place when it is whole and on the disk, so whatever
//! stands in `artifacts` is whole, whenever the engine was killed. MLflow knows no checksums: the manifest's are of
//! what arrived, and are checked again before a later start uses the files.

mod incoming;
mod manifest;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aibuyer_domain::model::{ModelName, ServableId};

pub(crate) use incoming::{Incoming, Part};
pub(crate) use manifest::{Identity, Manifest};

/// A version whose gathering nobody has taken up for so long is given up: longer than any fetch may take.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// Where files are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The folder.
    pub root: PathBuf,
    /// Versions of each model that stay beside those in use.
    pub keep: usize,
    /// Bytes that one version may have.
    pub max_bytes: u64,
}

/// The store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    options: StoreOptions,
    /// One for each version that was ever fetched: two fetches of the same files wait for each other.
    locks: Arc<Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>>,
}

/// A problem with the disk.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; storage.path must be a folder that the engine may write", path.display())]
pub(crate) struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

impl Store {
    pub(crate) fn new(options: StoreOptions) -> Self {
        Self { options, locks: Arc::default() }
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.options.max_bytes
    }

    /// The lock of a version's files.
    pub(crate) fn lock(&self, identity: &Identity) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(self.folder(identity)).or_default())
    }

    /// The files of exactly this version and what they are, if they are here and whole.
    pub(crate) fn whole(&self, identity: &Identity, wanted: &dyn Fn() -> bool) -> Option<(PathBuf, Manifest)> {
        checked(&self.folder(identity), identity, wanted)
    }

    /// The newest files of a version of which nothing but name and number is known, because the registry is silent.
    pub(crate) fn newest(
        &self,
        id: &ServableId,
        workspace: Option<&str>,
        wanted: &dyn Fn() -> bool,
    ) -> Option<PathBuf> {
        let mut found: Vec<(Identity, PathBuf)> = self
            .folders(&id.name)
            .into_iter()
            .filter_map(|folder| Some((Manifest::read(&folder).ok()?.identity, folder)))
            .filter(|(identity, _)| identity.id() == Some(id.clone()) && identity.workspace.as_deref() == workspace)
            .collect();
        found.sort_by_key(|(identity, _)| identity.creation_timestamp);
        found.into_iter().rev().find_map(|(identity, folder)| Some(checked(&folder, &identity, wanted)?.0))
    }

    /// A place to gather a version's files.
    pub(crate) fn incoming(&self, identity: &Identity) -> Result<Incoming, StoreError> {
        Incoming::open(self.options.root.join("incoming").join(identity.key()), self.folder(identity))
    }

    /// Deletes versions that are not in use, but for the last few of each model, and what was being gathered of
    /// versions that nobody has fetched for a day.
    pub(crate) fn collect(&self, in_use: &[ServableId]) {
        for model in entries(&self.options.root.join("artifacts")) {
            let mut spare: Vec<(u64, PathBuf)> = Vec::new();
            let mut used: BTreeMap<ServableId, (u64, PathBuf)> = BTreeMap::new();
            for folder in entries(&model) {
                let Ok(Manifest { identity, .. }) = Manifest::read(&folder) else { continue };
                let (Some(id), age) = (identity.id(), identity.creation_timestamp) else { continue };
                if !in_use.contains(&id) {
                    spare.push((age, folder));
                } else if let Some(older) = newest(used.entry(id), (age, folder)) {
                    // Of a model that was deleted and made anew.
                    spare.push(older);
                }
            }
            spare.sort_unstable();
            spare.truncate(spare.len().saturating_sub(self.options.keep));
            spare.iter().for_each(|(_, folder)| delete(folder));
        }
        for folder in entries(&self.options.root.join("incoming")) {
            let touched = fs::metadata(folder.join("boot")).and_then(|meta| meta.modified());
            if touched.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
                delete(&folder);
            }
        }
    }

    fn folder(&self, identity: &Identity) -> PathBuf {
        let folder = format!("{}-{}", identity.version, identity.key());
        self.options.root.join("artifacts").join(&identity.name).join(folder)
    }

    fn folders(&self, name: &ModelName) -> Vec<PathBuf> {
        entries(&self.options.root.join("artifacts").join(name.as_str()))
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(|_| Vec::new(), |entries| entries.flatten().map(|entry| entry.path()).collect())
}

/// Keeps the newer of what is there and what comes; the older one, if there are two.
fn newest(entry: Entry<'_, ServableId, (u64, PathBuf)>, comes: (u64, PathBuf)) -> Option<(u64, PathBuf)> {
    match entry {
        Entry::Vacant(vacant) => {
            vacant.insert(comes);
            None
        }
        Entry::Occupied(mut there) if comes.0 > there.get().0 => Some(there.insert(comes)),
        Entry::Occupied(_) => Some(comes),
    }
}

fn delete(folder: &Path) {
    tracing::info!(folder = %folder.display(), "artifact deleted: it is not in use, and newer ones are here");
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "artifact cannot be deleted");
    }
}

/// The files of a folder that hold what its manifest says.
fn checked(folder: &Path, identity: &Identity, wanted: &dyn Fn() -> bool) -> Option<(PathBuf, Manifest)> {
    if !folder.exists() {
        return None;
    }
    let files = folder.join("files");
    let sound = Manifest::read(folder).and_then(|manifest| {
        if manifest.identity != *identity {
            return Err("is another version's".to_owned());
        }
        manifest.check(&files, wanted).map(|()| manifest)
    });
    match sound {
        Ok(manifest) => Some((files, manifest)),
        Err(_) if !wanted() => None,
        Err(reason) => {
            tracing::warn!(folder = %folder.display(), reason, "artifact on disk is damaged; it is fetched again");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity(version: u64) -> Identity {
        Identity {
            workspace: None,
            name: "m".to_owned(),
            version,
            creation_timestamp: 1000 + version,
            artifact_uri: format!("mlflow-artifacts:/1/models/m-{version}/artifacts"),
        }
    }

    fn put(store: &Store, identity: &Identity, content: &[u8]) -> PathBuf {
        let incoming = store.incoming(identity).unwrap();
        let digest = incoming.part("MLmodel", None).unwrap().append(content).unwrap().finish().unwrap();
        incoming.commit(&Manifest::new(identity.clone(), vec![digest])).unwrap()
    }

    fn store(root: &Path) -> Store {
        Store::new(StoreOptions { root: root.to_owned(), keep: 1, max_bytes: 1 << 20 })
    }

    #[test]
    fn a_version_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.whole(&identity(1), &|| true), None);
        let files = put(&store, &identity(1), b"abc");
        assert_eq!(store.whole(&identity(1), &|| true).unwrap().0, files);
        let id = identity(1).id().unwrap();
        assert_eq!(store.newest(&id, None, &|| true), Some(files.clone()));
        assert_eq!(store.newest(&id, Some("ads"), &|| true), None, "another workspace's");
        // The same name and number of a model that was deleted and made anew.
        assert_eq!(store.whole(&Identity { creation_timestamp: 7, ..identity(1) }, &|| true), None);
        fs::write(files.join("MLmodel"), b"abd").unwrap();
        assert_eq!(store.whole(&identity(1), &|| true), None, "a changed byte");
        assert_eq!(store.newest(&id, None, &|| true), None);
        put(&store, &identity(1), b"abc");
        assert!(store.whole(&identity(1), &|| true).is_some(), "fetched again over the damaged one");
    }

    #[test]
    fn versions_in_use_and_the_last_few_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for version in 1..=4 {
            put(&store, &identity(version), b"abc");
        }
        store.collect(&[identity(1).id().unwrap()]);
        // Version 1 of a model that was deleted and made anew: only one of the two is in use.
        let anew = Identity { creation_timestamp: 9000, ..identity(1) };
        put(&store, &anew, b"new");
        put(&store, &Identity { name: "gone".to_owned(), ..identity(5) }, b"abc");
        put(&store, &Identity { name: "gone".to_owned(), ..identity(6) }, b"abc");
        let left: Vec<bool> = (1..=4).map(|version| store.whole(&identity(version), &|| true).is_some()).collect();
        assert_eq!(left, [true, false, false, true]);
        store.collect(&[identity(1).id().unwrap()]);
        assert!(
            store.whole(&anew, &|| true).is_some() && store.whole(&identity(1), &|| true).is_none(),
            "the newer one is in use"
        );
        let gone =
            |version| store.whole(&Identity { name: "gone".to_owned(), ..identity(version) }, &|| true).is_some();
        assert_eq!((gone(5), gone(6)), (false, true), "the last one of a model that nobody names");
    }

    #[test]
    fn what_was_gathered_and_left_is_deleted_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        drop(store.incoming(&identity(1)).unwrap());
        let marker = dir.path().join("incoming").join(identity(1).key()).join("boot");
        store.collect(&[]);
        assert!(marker.exists(), "it may go on");
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        fs::File::options().write(true).open(&marker).unwrap().set_modified(long_ago).unwrap();
        store.collect(&[]);
        assert!(!marker.parent().unwrap().exists());
    }
}
