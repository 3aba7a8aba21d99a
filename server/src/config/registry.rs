//! Where models come from.

use std::{fmt, path::PathBuf, time::Duration};

use aibuyer_domain::model::{Alias, ModelName};
use aibuyer_registry::Models;

use super::{ConfigError, reader::Reader};

/// The registry.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// Which.
    pub source: SourceConfig,
    /// The alias whose version answers a request that names none.
    pub default_alias: Alias,
    /// How often it is looked at.
    pub poll_interval: Duration,
}

/// Which registry.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceConfig {
    /// A folder of models.
    Directory(PathBuf),
    /// An MLflow server.
    Mlflow(Box<MlflowConfig>),
}

/// An MLflow server; secrets are named, not held.
#[derive(Debug, Clone, PartialEq)]
pub struct MlflowConfig {
    /// Base URL.
    pub url: String,
    /// Which models are served.
    pub models: Models,
    /// Which aliases of them; all where it is empty.
    pub aliases: Vec<Alias>,
    /// User for basic authentication; empty for none.
    pub username: String,
    /// File of their password.
    pub password_file: Option<PathBuf>,
    /// File of a bearer token.
    pub token_file: Option<PathBuf>,
    /// File of certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// Workspace.
    pub workspace: Option<String>,
    /// File of the webhook's secret.
    pub webhook_secret_file: Option<PathBuf>,
    /// How long a fetch may take.
    pub fetch_timeout: Duration,
    /// Bytes of one version.
    pub max_model_bytes: u64,
    /// Whether versions must promise their digests.
    pub require_manifest: bool,
    /// Versions that stay on disk beside those in use.
    pub keep_versions: usize,
}

impl fmt::Display for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "folder {}", path.display()),
            Self::Mlflow(mlflow) => write!(f, "MLflow at {}", mlflow.url),
        }
    }
}

impl RegistryConfig {
    pub(super) fn new(r: &Reader) -> Result<Self, ConfigError> {
        let url = r.text("registry.mlflow_url")?;
        let (source, least, usual) = if url.is_empty() {
            (
                SourceConfig::Directory(r.text("registry.path")?.into()),
                Duration::from_millis(100),
                Duration::from_secs(1),
            )
        } else {
            let second = Duration::from_secs(1);
            (SourceConfig::Mlflow(Box::new(MlflowConfig::new(r, url)?)), second, 10 * second)
        };
        let default_alias = r.text("registry.default_alias")?;
        let default_alias = default_alias
            .parse()
            .map_err(|e: aibuyer_domain::model::NameError| r.fail("registry.default_alias", &e.to_string()))?;
        let poll_interval = match r.duration("registry.poll_interval", Duration::ZERO)? {
            Duration::ZERO => usual,
            _ => r.duration("registry.poll_interval", least)?,
        };
        Ok(Self { source, default_alias, poll_interval })
    }
}

impl MlflowConfig {
    fn new(r: &Reader, url: String) -> Result<Self, ConfigError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(r.fail("registry.mlflow_url", "needs a URL such as \"http://mlflow:5000\""));
        }
        let names: Vec<ModelName> = r.list("registry.models")?;
        if let Some(name) = names.iter().find(|name| name.as_str().contains('\'')) {
            return Err(r.fail("registry.models", &format!("{name} has a quote, which MLflow's filters cannot name")));
        }
        let filter = r.text("registry.filter")?;
        let models = match (names.is_empty(), filter.is_empty()) {
            (false, true) => Models::Named(names),
            (true, false) => Models::Filter(filter),
            (true, true) => {
                let needs = "needs the registered models to serve, or registry.filter a search filter that finds them";
                return Err(r.fail("registry.models", needs));
            }
            (false, false) => return Err(r.fail("registry.filter", "cannot be set beside registry.models: choose one")),
        };
        let password_file = r.path("registry.password_file")?;
        let username = r.text("registry.username")?;
        if username.is_empty() != password_file.is_none() {
            return Err(r.fail("registry.password_file", "goes together with registry.username: set both or neither"));
        }
        let workspace = r.text("registry.workspace")?;
        Ok(Self {
            url,
            models,
            aliases: r.list("registry.aliases")?,
            username,
            password_file,
            token_file: r.path("registry.token_file")?,
            ca_file: r.path("registry.ca_file")?,
            workspace: (!workspace.is_empty()).then_some(workspace),
            webhook_secret_file: r.path("registry.webhook_secret_file")?,
            fetch_timeout: r.duration("registry.fetch_timeout", Duration::from_secs(1))?,
            max_model_bytes: r.integer("registry.max_model_bytes", 1, usize::MAX)? as u64,
            require_manifest: r.flag("registry.require_manifest")?,
            keep_versions: r.integer("storage.keep_versions", 0, 10_000)?,
        })
    }
}
