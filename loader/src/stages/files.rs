//! An artifact's files, and what MLflow says about them.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use crate::error::LoadError;

/// Name of the file that MLflow writes beside every model.
pub(super) const MLMODEL: &str = "MLmodel";

/// Reads files of one folder.
pub(super) struct Files {
    pub(super) folder: PathBuf,
    /// Of all that was read.
    pub(super) bytes: u64,
}

impl Files {
    pub(super) fn has(&self, file: &str) -> bool {
        self.folder.join(file).exists()
    }

    /// Reads a file that the model refers to: not one outside the folder, and none through a link that leads there.
    pub(super) fn external(&mut self, location: &str) -> Result<Vec<u8>, String> {
        self.check_inside(location)?;
        self.read(location).map_err(|e| e.to_string())
    }

    /// Refuses a path that leads out of the folder, or to no file.
    pub(super) fn check_inside(&self, path: &str) -> Result<(), String> {
        if !is_inside(path) {
            return Err("not a relative path of a file in the model's folder".to_owned());
        }
        let real = |path: &Path| path.canonicalize().map_err(|e| format!("it cannot be read: {e}"));
        let file = real(&self.folder.join(path))?;
        if !file.starts_with(real(&self.folder)?) {
            return Err("it is a link to a file outside the model's folder".to_owned());
        }
        if file.is_file() { Ok(()) } else { Err("it is not a file".to_owned()) }
    }

    pub(super) fn read(&mut self, file: &str) -> Result<Vec<u8>, LoadError> {
        let content = fs::read(self.folder.join(file));
        let content = content.map_err(|source| LoadError::Read { file: file.to_owned(), source })?;
        self.bytes += content.len() as u64;
        Ok(content)
    }
}

/// Whether a path stays inside the folder that it is relative to.
pub(super) fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

pub(super) fn text(file: &str, content: Vec<u8>) -> Result<String, LoadError> {
    String::from_utf8(content).map_err(|e| LoadError::Content { file: file.to_owned(), reason: e.to_string() })
}

/// What `MLmodel` says of an ONNX model.
pub(super) struct MlModel {
    /// The model file.
    pub(super) data: Option<String>,
    /// Version of the CTR contract.
    pub(super) contract: Option<String>,
}

impl MlModel {
    pub(super) fn parse(content: Vec<u8>) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Yaml {
            #[serde(default)]
            flavors: Flavors,
            metadata: Option<Metadata>,
        }
        #[derive(Default, Deserialize)]
        struct Flavors {
            onnx: Option<OnnxFlavor>,
        }
        #[derive(Deserialize)]
        struct OnnxFlavor {
            data: Option<String>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            aibuyer_contract: Option<String>,
        }
        let parsed: Yaml = serde_saphyr::from_str(&text(MLMODEL, content)?)
            .map_err(|error| LoadError::MlModel(format!("is not the YAML that MLflow writes: {error}")))?;
        let Some(onnx) = parsed.flavors.onnx else {
            return Err(LoadError::MlModel("has no `onnx` flavor: log the model with mlflow.onnx".to_owned()));
        };
        Ok(Self { data: onnx.data, contract: parsed.metadata.and_then(|m| m.aibuyer_contract) })
    }
}
