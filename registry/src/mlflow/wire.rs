//! MLflow's JSON, as far as it matters here. It is protobuf's: whatever is empty or unset is absent, and each release
//! adds fields.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `registered-models/search`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Models {
    pub(super) registered_models: Vec<Model>,
    pub(super) next_page_token: String,
}

/// A registered model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Model {
    pub(super) name: String,
    /// Milliseconds since 1970. A model that was deleted and made anew has another.
    pub(super) creation_timestamp: u64,
    pub(super) aliases: Vec<AliasOf>,
}

/// An alias and the version behind it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AliasOf {
    pub(super) alias: String,
    pub(super) version: String,
}

/// `model-versions/get`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionAnswer {
    pub(super) model_version: ModelVersion,
}

/// A model version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelVersion {
    pub(super) creation_timestamp: u64,
    pub(super) status: String,
    pub(super) status_message: String,
    pub(super) tags: Vec<Tag>,
}

impl ModelVersion {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }
}

/// A tag.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

/// `model-versions/get-download-uri`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DownloadUri {
    pub(super) artifact_uri: String,
}

/// `runs/get`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunAnswer {
    pub(super) run: Run,
}

/// A run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Run {
    pub(super) info: RunInfo,
}

/// What is known of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunInfo {
    pub(super) artifact_uri: String,
}

/// `mlflow-artifacts/artifacts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    pub(super) files: Vec<Entry>,
}

/// A file or folder; its path is relative to the folder that was listed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) is_dir: bool,
    pub(super) file_size: u64,
}

/// A failed call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) error_code: String,
    pub(super) message: String,
}

/// The tag `aibuyer.manifest`: SHA-256 of every file, in hexadecimal, by path.
pub(super) type ManifestTag = BTreeMap<String, String>;
