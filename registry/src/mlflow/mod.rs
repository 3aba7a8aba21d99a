//! An MLflow server as a registry.
//!
//! One call tells every alias of every model (`registered-models/search`): that is the poll. A version's files come
//! through the server's artifact API and stay in a store on disk, so the engine can be restarted while MLflow is
//! away. What MLflow calls champion answers; what it deletes goes on answering until another version is named.

mod client;
mod download;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fake;
mod fetch;
mod listing;
mod local;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod wire;

use std::{path::PathBuf, time::Duration};

use aibuyer_domain::model::{Alias, ArtifactStore, DesiredModel, FetchError, ModelName, Revision, ServableId, Version};

pub use client::{ConnectError, Connection, Credentials};

use crate::{
    source::{Registry, Scan, ScanError},
    store::{Store, StoreOptions},
};
use client::Client;
use fetch::{FetchFailure, Fetcher};

/// Models that one question names: more would make its address too long for some servers.
const NAMES_AT_ONCE: usize = 200;
/// What one page of an answer may hold at most.
const PAGE: &str = "1000";
/// Pages of one answer.
const MOST_PAGES: usize = 100;
/// A file of which nothing comes for so long is asked for anew.
const SILENCE: Duration = Duration::from_secs(20);

/// Which models of the server are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Models {
    /// These.
    Named(Vec<ModelName>),
    /// Those that an MLflow search filter finds, such as `tags.serve = 'true'` or `name LIKE 'ctr-%'`.
    Filter(String),
}

/// What is wanted of an MLflow server, and how it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlflowOptions {
    /// The server.
    pub connection: Connection,
    /// Which models are served.
    pub models: Models,
    /// Which aliases of them; all where it is empty.
    pub aliases: Vec<Alias>,
    /// The alias whose version answers a request that names none.
    pub default_alias: Alias,
    /// Where files are kept.
    pub store: StoreOptions,
    /// How long the fetch of one version may take.
    pub fetch_timeout: Duration,
    /// Whether a version must promise the digests of its files by the tag `aibuyer.manifest`.
    pub require_manifest: bool,
}

/// An MLflow server. The watcher has one, the loader another: they share the store on disk.
#[derive(Debug, Clone)]
pub struct Mlflow {
    models: Models,
    aliases: Vec<Alias>,
    default_alias: Alias,
    fetcher: Fetcher,
}

impl Mlflow {
    /// A server that has not been asked yet.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection's settings cannot be used.
    pub fn new(options: MlflowOptions) -> Result<Self, ConnectError> {
        let MlflowOptions { connection, models, aliases, default_alias, store, fetch_timeout, require_manifest } =
            options;
        let fetcher = Fetcher {
            client: Client::new(&connection)?,
            store: Store::new(store),
            workspace: connection.workspace,
            timeout: fetch_timeout,
            silence: SILENCE,
            require_manifest,
        };
        Ok(Self { models, aliases, default_alias, fetcher })
    }

    /// The models that a filter finds.
    fn search(&self, filter: &str) -> Result<Vec<wire::Model>, ScanError> {
        let (mut found, mut token) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let query = [("filter", filter), ("max_results", PAGE), ("page_token", token.as_str())];
            let query = if token.is_empty() { &query[..2] } else { &query[..] };
            let answer: wire::Models = self
                .fetcher
                .client
                .ask("mlflow/registered-models/search", query)
                .map_err(|error| ScanError(error.to_string()))?;
            found.extend(answer.registered_models);
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Adds what was found.
    fn note(&self, found: Vec<wire::Model>, scan: &mut Scan) {
        for model in found {
            match model.name.parse::<ModelName>() {
                Err(error) => scan.problems.push(error.to_string()),
                Ok(name) => {
                    let desired = self.desired(&model, &mut scan.problems);
                    scan.desired.models.insert(name, desired);
                }
            }
        }
    }

    fn desired(&self, model: &wire::Model, problems: &mut Vec<String>) -> DesiredModel {
        let mut desired = DesiredModel::default();
        for wire::AliasOf { alias, version } in &model.aliases {
            let (Ok(alias), Ok(version)) = (alias.parse::<Alias>(), version.parse::<Version>()) else {
                problems.push(format!("{}: alias {alias:?} of version {version:?} is not one of MLflow's", model.name));
                continue;
            };
            if self.aliases.is_empty() || self.aliases.contains(&alias) || alias == self.default_alias {
                desired.versions.insert(version, Revision(model.creation_timestamp));
                desired.aliases.insert(alias, version);
            }
        }
        desired.default = desired.aliases.get(&self.default_alias).copied();
        if desired.default.is_none() {
            problems.push(format!(
                "{}: has no alias {}, which answers requests that name neither alias nor version; set it in MLflow",
                model.name, self.default_alias
            ));
        }
        desired
    }
}

impl Registry for Mlflow {
    fn scan(&mut self) -> Result<Scan, ScanError> {
        let mut scan = Scan::default();
        match &self.models {
            Models::Filter(filter) => self.note(self.search(filter)?, &mut scan),
            Models::Named(names) => {
                for some in names.chunks(NAMES_AT_ONCE) {
                    let quoted: Vec<String> = some.iter().map(|name| format!("'{name}'")).collect();
                    self.note(self.search(&format!("name IN ({})", quoted.join(",")))?, &mut scan);
                }
                names.iter().for_each(|name| expect(name, &mut scan));
            }
        }
        Ok(scan)
    }

    fn scan_model(&mut self, name: &str, last: &Scan) -> Result<Scan, ScanError> {
        let mut scan = last.clone();
        let Ok(name) = name.parse::<ModelName>() else { return Ok(scan) };
        let filter = match &self.models {
            Models::Named(names) if !names.contains(&name) => return Ok(scan),
            Models::Named(_) => format!("name = '{name}'"),
            // MLflow's filters know `AND` alone.
            Models::Filter(filter) => format!("{filter} AND name = '{name}'"),
        };
        let found = self.search(&filter)?;
        let about = format!("{name}: ");
        scan.problems.retain(|problem| !problem.starts_with(&about));
        scan.desired.models.remove(&name);
        self.note(found, &mut scan);
        if matches!(self.models, Models::Named(_)) {
            expect(&name, &mut scan);
        }
        Ok(scan)
    }
}

/// A model that is named is wanted although nothing of it can be had: what answered last stands in.
fn expect(name: &ModelName, scan: &mut Scan) {
    scan.desired.models.entry(name.clone()).or_insert_with(|| {
        scan.problems
            .push(format!("{name}: MLflow shows no such model: it is not registered, or this user may not read it"));
        DesiredModel::default()
    });
}

impl ArtifactStore for Mlflow {
    fn fetch(&self, id: &ServableId, wanted: &(dyn Fn() -> bool + Sync)) -> Result<PathBuf, FetchError> {
        let from_disk = || self.fetcher.store.newest(id, self.fetcher.workspace.as_deref(), wanted);
        // A server that was silent a moment ago is not waited for again, version by version.
        if !self.fetcher.client.answers()
            && let Some(files) = from_disk()
        {
            tracing::warn!(model = %id.name, version = %id.version, "served from disk: MLflow did not answer");
            return Ok(files);
        }
        let failure = match self.fetcher.fetch(id, wanted) {
            Ok(files) => return Ok(files),
            Err(failure) => failure,
        };
        if let Some(files) = failure.is_outage().then(from_disk).flatten() {
            tracing::warn!(model = %id.name, version = %id.version, error = %failure, "served from disk");
            return Ok(files);
        }
        Err(FetchError { id: id.clone(), reason: reason(failure) })
    }

    fn collect(&self, in_use: &[ServableId]) {
        self.fetcher.store.collect(in_use);
    }
}

/// A version's failure in words that do not name the version again.
fn reason(failure: FetchFailure) -> String {
    match failure {
        FetchFailure::Call(error) if error.is_missing() => format!("{error}; was it deleted from the registry?"),
        failure => failure.to_string(),
    }
}
