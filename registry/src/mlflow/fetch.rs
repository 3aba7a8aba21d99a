//! From a version's name to its files on disk.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aibuyer_domain::model::ServableId;

use super::{
    client::{CallError, Client},
    download::download,
    listing::{self, ListError, Listed},
    local,
    wire::{DownloadUri, ManifestTag, RunAnswer, VersionAnswer},
};
use crate::store::{Identity, Incoming, Manifest, Part, Store, StoreError};

/// Files fetched at once.
const AT_ONCE: usize = 4;
/// Left free on the disk.
const SPARE: u64 = 64 << 20;
/// Tag of a version that says what its files are: SHA-256 in hexadecimal by path, as JSON.
pub(super) const MANIFEST_TAG: &str = "aibuyer.manifest";

/// A version's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchFailure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("its status in the registry is {status}{message}: it can serve once it is READY")]
    Status { status: String, message: String },
    #[error(
        "its files are at {0}, which MLflow does not hand out: start the MLflow server with --artifacts-destination (and \
         without --no-serve-artifacts) so that it proxies artifacts, and log the model anew"
    )]
    ObjectStore(String),
    #[error(
        "its files are at {path}, which cannot be read here: {reason}; share that folder, or let MLflow proxy artifacts"
    )]
    LocalFiles { path: String, reason: String },
    #[error("it has no MLmodel file: log it with mlflow.onnx.log_model or mlflow.prophet.log_model")]
    NoMlModel,
    #[error("it has {bytes} bytes, and registry.max_model_bytes is {most}")]
    TooLarge { bytes: u64, most: u64 },
    #[error("it needs {needed} bytes and {SPARE} to spare, and the disk of storage.path has {free} left")]
    DiskFull { needed: u64, free: u64 },
    #[error("{path} ended after {got} of {size} bytes{}", cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default())]
    Short { path: String, got: u64, size: u64, cause: Option<String> },
    #[error("{path} has more than the {size} bytes that the registry lists: it is being changed")]
    Long { path: String, size: u64 },
    #[error("its files changed while they were fetched: {0}")]
    Changed(String),
    #[error("it took longer than registry.fetch_timeout, {}: {path} had {got} of {size} bytes", humantime(limit))]
    Timeout { limit: Duration, path: String, got: u64, size: u64 },
    #[error("another version is wanted")]
    Unwanted,
    #[error(
        "the version has no tag {MANIFEST_TAG}, and registry.require_manifest is on: set it when the version is registered"
    )]
    NoManifest,
    #[error("the tag {MANIFEST_TAG} {0}")]
    Manifest(String),
}

fn humantime(duration: &Duration) -> String {
    format!("{duration:?}")
}

impl FetchFailure {
    /// Whether it says nothing about the version, only about the way to it.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Call(error) | Self::List(ListError::Call(error)) => error.is_outage(),
            _ => false,
        }
    }
}

/// How versions are fetched.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) workspace: Option<String>,
    pub(super) timeout: Duration,
    pub(super) silence: Duration,
    pub(super) require_manifest: bool,
}

/// What a fetch is bounded by.
pub(super) struct Bounds<'a> {
    pub(super) wanted: &'a (dyn Fn() -> bool + Sync),
    pub(super) until: Instant,
    limit: Duration,
    /// How long nothing may come of a file that has begun.
    pub(super) silence: Duration,
}

impl Bounds<'_> {
    pub(super) fn check(&self, path: &str, got: u64, size: u64) -> Result<(), FetchFailure> {
        if !(self.wanted)() {
            return Err(FetchFailure::Unwanted);
        }
        if Instant::now() >= self.until {
            return Err(FetchFailure::Timeout { limit: self.limit, path: path.to_owned(), got, size });
        }
        Ok(())
    }
}

/// Where a version's files are.
enum Place {
    /// Below this path of the server's artifacts.
    Proxied(String),
    /// In this folder.
    Local(PathBuf),
}

impl Fetcher {
    /// Brings a version's files to disk, unless they are there.
    pub(super) fn fetch(&self, id: &ServableId, wanted: &(dyn Fn() -> bool + Sync)) -> Result<PathBuf, FetchFailure> {
        let (identity, promised) = self.identify(id)?;
        let lock = self.store.lock(&identity);
        let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((files, manifest)) = self.store.whole(&identity, wanted) {
            // The promise may be younger than the files.
            promised.as_ref().map_or(Ok(()), |promised| keep_promise(&manifest, promised))?;
            return Ok(files);
        }
        let limit = self.timeout;
        let bounds = Bounds { wanted, until: Instant::now() + limit, limit, silence: self.silence };
        match self.place(&identity)? {
            Place::Proxied(root) => {
                let listed = listing::list(&self.client, &root)?;
                let get = |file: &Listed, incoming: &Incoming| download(&self.client, &root, file, incoming, &bounds);
                self.gather(identity, promised.as_ref(), &listed, &bounds, get, || {
                    Ok(listing::list(&self.client, &root)?)
                })
            }
            Place::Local(folder) => {
                let listed = local::list(&folder)?;
                let get = |file: &Listed, incoming: &Incoming| local::copy(&folder, file, incoming, &bounds);
                self.gather(identity, promised.as_ref(), &listed, &bounds, get, || local::list(&folder))
            }
        }
    }

    /// What is known of the version, and the digests that its tag promises.
    fn identify(&self, id: &ServableId) -> Result<(Identity, Option<ManifestTag>), FetchFailure> {
        let (name, version) = (id.name.as_str(), id.version.to_string());
        let query = [("name", name), ("version", version.as_str())];
        let VersionAnswer { model_version: found } = self.client.get("mlflow/model-versions/get", &query)?;
        if !matches!(found.status.as_str(), "READY" | "") {
            let separator = if found.status_message.is_empty() { "" } else { ", " };
            let message = format!("{separator}{}", found.status_message);
            return Err(FetchFailure::Status { status: found.status, message });
        }
        let promised = match found.tag(MANIFEST_TAG) {
            None if self.require_manifest => return Err(FetchFailure::NoManifest),
            None => None,
            Some(tag) => Some(
                serde_json::from_str(tag)
                    .map_err(|e| FetchFailure::Manifest(format!("is not JSON of digests by path: {e}")))?,
            ),
        };
        let DownloadUri { artifact_uri } = self.client.get("mlflow/model-versions/get-download-uri", &query)?;
        let identity = Identity {
            workspace: self.workspace.clone(),
            name: name.to_owned(),
            version: id.version.get(),
            creation_timestamp: found.creation_timestamp,
            artifact_uri,
        };
        Ok((identity, promised))
    }

    fn place(&self, identity: &Identity) -> Result<Place, FetchFailure> {
        let uri = match identity.artifact_uri.strip_prefix("runs:/") {
            None => identity.artifact_uri.clone(),
            // The server leaves this one to its clients.
            Some(rest) => {
                let (run, path) = rest.split_once('/').unwrap_or((rest, ""));
                let RunAnswer { run } = self.client.get("mlflow/runs/get", &[("run_id", run)])?;
                format!("{}/{path}", run.info.artifact_uri)
            }
        };
        if let Some(path) = uri.strip_prefix("mlflow-artifacts:") {
            // `mlflow-artifacts://host:port/path` names this server.
            let path = path.strip_prefix("//").map_or(path, |rest| rest.split_once('/').map_or("", |(_, path)| path));
            return Ok(Place::Proxied(path.trim_matches('/').to_owned()));
        }
        match uri.split_once("://") {
            None => Ok(Place::Local(PathBuf::from(uri))),
            Some(("file", path)) => Ok(Place::Local(PathBuf::from(path.strip_prefix("localhost").unwrap_or(path)))),
            Some(_) => Err(FetchFailure::ObjectStore(uri)),
        }
    }

    /// Gathers listed files by `get`, and puts them in their place if `again` still lists the same.
    fn gather(
        &self,
        identity: Identity,
        promised: Option<&ManifestTag>,
        listed: &[Listed],
        bounds: &Bounds,
        get: impl Fn(&Listed, &Incoming) -> Result<Part, FetchFailure> + Sync,
        again: impl Fn() -> Result<Vec<Listed>, FetchFailure>,
    ) -> Result<PathBuf, FetchFailure> {
        if !listed.iter().any(|file| file.path == "MLmodel") {
            return Err(FetchFailure::NoMlModel);
        }
        let bytes = listed.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
        if bytes > self.store.max_bytes() {
            return Err(FetchFailure::TooLarge { bytes, most: self.store.max_bytes() });
        }
        let incoming = self.store.incoming(&identity)?;
        let here: u64 = listed.iter().filter_map(|f| Some(incoming.partial(&f.path)?.0.min(f.size))).sum();
        let free = incoming.free_bytes()?;
        if free < (bytes - here).saturating_add(SPARE) {
            return Err(FetchFailure::DiskFull { needed: bytes - here, free });
        }
        tracing::info!(model = %identity.name, version = identity.version, files = listed.len(), bytes, "fetching");
        let digests = Mutex::new(Vec::new());
        all(listed, |file| {
            bounds.check(&file.path, 0, file.size)?;
            let digest = get(file, &incoming)?.finish()?;
            digests.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
            Ok(())
        })?;
        let after = again()?;
        if after != listed {
            return Err(FetchFailure::Changed(difference(listed, &after)));
        }
        let manifest = Manifest::new(identity, digests.into_inner().unwrap_or_else(PoisonError::into_inner));
        if let Some(broken) = promised.and_then(|promised| keep_promise(&manifest, promised).err()) {
            // These bytes are wrong, and MLflow's tags would call them unchanged.
            incoming.discard()?;
            return Err(broken);
        }
        Ok(incoming.commit(&manifest)?)
    }
}

/// Refuses a file that is not as long as it was listed.
pub(super) fn whole(part: Part, file: &Listed, cause: Option<String>) -> Result<Part, FetchFailure> {
    let (path, size, got) = (file.path.clone(), file.size, part.size());
    match got.cmp(&size) {
        std::cmp::Ordering::Less => Err(FetchFailure::Short { path, got, size, cause }),
        std::cmp::Ordering::Equal => Ok(part),
        std::cmp::Ordering::Greater => Err(FetchFailure::Long { path, size }),
    }
}

/// Does it to every file, a few at a time; the first failure, if any, ends it.
fn all(files: &[Listed], get: impl Fn(&Listed) -> Result<(), FetchFailure> + Sync) -> Result<(), FetchFailure> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure = Mutex::new(None);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = get(file) {
                failed.store(true, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn difference(before: &[Listed], after: &[Listed]) -> String {
    let by_path = |files: &[Listed]| -> BTreeMap<String, u64> {
        files.iter().map(|file| (file.path.clone(), file.size)).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    for (path, size) in &before {
        match after.get(path) {
            None => return format!("{path} is gone"),
            Some(now) if now != size => return format!("{path} had {size} bytes and has {now}"),
            Some(_) => {}
        }
    }
    let new = after.keys().find(|path| !before.contains_key(*path));
    new.map_or_else(|| "in no way that can be told".to_owned(), |path| format!("{path} is new"))
}

/// Checks the files against the digests that the version's tag promises.
fn keep_promise(manifest: &Manifest, promised: &ManifestTag) -> Result<(), FetchFailure> {
    let fail = |reason: String| Err(FetchFailure::Manifest(reason));
    for file in &manifest.files {
        match promised.get(&file.path) {
            None => return fail(format!("does not name {}", file.path)),
            Some(sha256) if !sha256.eq_ignore_ascii_case(&file.sha256) => {
                return fail(format!("gives {} the SHA-256 {sha256}; what arrived has {}", file.path, file.sha256));
            }
            Some(_) => {}
        }
    }
    let missing = promised.keys().find(|path| !manifest.files.iter().any(|file| file.path == **path));
    missing.map_or(Ok(()), |path| fail(format!("names {path}, which is not there")))
}
