//! Opens the configured registry, with its secrets from files and from MLflow's own variables.

use std::{env, fs, path::Path, path::PathBuf, sync::Arc};

use aibuyer_domain::model::{Alias, ArtifactStore};
use aibuyer_registry::{
    ConnectError, Connection, Credentials, Directory, Mlflow, MlflowOptions, Registry, Scan, ScanError, StoreOptions,
    Webhook,
};

use crate::config::{Config, MlflowConfig, SourceConfig};

/// The registry cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The model directory cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// MLflow's connection cannot be set up.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A file of a setting cannot be read.
    #[error("{setting} = {:?}: {source}", path.display())]
    File {
        /// The setting.
        setting: &'static str,
        /// Its value.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A secret that is no secret.
    #[error("{setting}: the file is empty")]
    Empty {
        /// The setting.
        setting: &'static str,
    },
}

/// An open registry.
pub(crate) struct Source {
    pub(crate) registry: Box<dyn Registry>,
    pub(crate) store: Arc<dyn ArtifactStore>,
    /// What the first look saw.
    pub(crate) first: Result<Scan, ScanError>,
    pub(crate) webhook: Option<Webhook>,
}

/// Opens the registry and looks at it once. Blocking.
pub(crate) fn open(config: &Config) -> Result<Source, RegistryError> {
    let default_alias = config.registry.default_alias.clone();
    match &config.registry.source {
        SourceConfig::Directory(root) => {
            let mut directory = Directory::new(root, default_alias);
            // Later failures are waited out; at the start a wrong path is a mistake to be told at once.
            let first = Ok(directory.scan()?);
            Ok(Source { store: Arc::new(directory.clone()), registry: Box::new(directory), first, webhook: None })
        }
        SourceConfig::Mlflow(mlflow) => {
            let secret = mlflow.webhook_secret_file.as_deref();
            let secret = secret.map(|path| secret_of("registry.webhook_secret_file", path)).transpose()?;
            let mut mlflow = Mlflow::new(options(mlflow, default_alias, &config.storage_path)?)?;
            // A server that is down says nothing about the models: what answered last is served from disk.
            let first = mlflow.scan();
            if let Err(error) = &first {
                tracing::error!(%error, "MLflow cannot be looked at; what answered last is served from disk");
            }
            let store = Arc::new(mlflow.clone());
            Ok(Source { store, registry: Box::new(mlflow), first, webhook: secret.map(Webhook::new) })
        }
    }
}

fn options(mlflow: &MlflowConfig, default_alias: Alias, storage: &Path) -> Result<MlflowOptions, RegistryError> {
    Ok(MlflowOptions {
        connection: Connection {
            url: mlflow.url.clone(),
            credentials: credentials(mlflow)?,
            workspace: mlflow.workspace.clone(),
            authorities: mlflow.ca_file.as_deref().map(|path| read("registry.ca_file", path)).transpose()?,
        },
        models: mlflow.models.clone(),
        aliases: mlflow.aliases.clone(),
        default_alias,
        store: StoreOptions { root: storage.to_owned(), keep: mlflow.keep_versions, max_bytes: mlflow.max_model_bytes },
        fetch_timeout: mlflow.fetch_timeout,
        require_manifest: mlflow.require_manifest,
    })
}

/// Files first, then the variables that MLflow's own client reads; a token before a password.
fn credentials(mlflow: &MlflowConfig) -> Result<Credentials, RegistryError> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(path) = &mlflow.token_file {
        return Ok(Credentials::Token(secret_of("registry.token_file", path)?));
    }
    if let Some(path) = &mlflow.password_file {
        let password = secret_of("registry.password_file", path)?;
        return Ok(Credentials::Basic { username: mlflow.username.clone(), password });
    }
    Ok(match (variable("MLFLOW_TRACKING_TOKEN"), variable("MLFLOW_TRACKING_USERNAME")) {
        (Some(token), _) => Credentials::Token(token),
        (None, Some(username)) => {
            Credentials::Basic { username, password: variable("MLFLOW_TRACKING_PASSWORD").unwrap_or_default() }
        }
        (None, None) => Credentials::None,
    })
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|source| RegistryError::File { setting, path: path.to_owned(), source })
}

/// The text of a file, without the line break that editors put at its end.
fn secret_of(setting: &'static str, path: &Path) -> Result<String, RegistryError> {
    let text = String::from_utf8_lossy(&read(setting, path)?).trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() { Err(RegistryError::Empty { setting }) } else { Ok(text) }
}
