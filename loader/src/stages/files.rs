//! An artifact's files, and what MLflow says about them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::declared::Declared;
use crate::error::LoadError;

/// Name of the file that MLflow writes beside every model.
pub(super) const MLMODEL: &str = "MLmodel";

/// Files that nobody but MLflow writes, always beside an [`MLMODEL`].
const MLFLOW: [&str; 4] = ["conda.yaml", "python_env.yaml", "input_example.json", "serving_input_example.json"];

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

    /// Whether MLflow wrote the folder.
    pub(super) fn of_mlflow(&self) -> bool {
        self.has(MLMODEL) || MLFLOW.iter().any(|file| self.has(file))
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

    /// Reads every file that a spec has the hash of, and checks it.
    pub(super) fn hashed(
        &mut self,
        spec: &'static str,
        digests: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, Vec<u8>>, LoadError> {
        let mut contents = BTreeMap::new();
        for (file, expected) in digests {
            let content = self.read(file)?;
            let actual: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
            if actual != *expected {
                return Err(LoadError::Digest { spec, file: file.clone(), expected: expected.clone(), actual });
            }
            contents.insert(file.clone(), content);
        }
        Ok(contents)
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

/// What kind of file a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    Onnx,
    Prophet,
}

/// What `MLmodel` says of a model.
pub(super) struct MlModel {
    /// Who can load it.
    pub(super) flavor: Flavor,
    /// The model file.
    pub(super) data: Option<String>,
    /// Version of the contract.
    pub(super) contract: Option<String>,
    /// Tensors as MLflow knows them.
    pub(super) declared: Declared,
}

impl MlModel {
    /// Checks it against a model's spec, which names the model's file and the version of the contract.
    pub(super) fn check(&self, spec: &str, file: &str, contract_version: u32) -> Result<(), LoadError> {
        let fail = |reason: String| Err(LoadError::MlModel(reason));
        match &self.data {
            Some(data) if data != file => {
                return fail(format!("flavors.onnx.data is {data:?}, {spec} has {file:?}"));
            }
            _ => {}
        }
        let expected = contract_version.to_string();
        match &self.contract {
            Some(found) if *found == expected => Ok(()),
            Some(found) => fail(format!("metadata.aibuyer_contract is {found:?}, must be {expected:?}")),
            None => fail(format!("has no metadata.aibuyer_contract: set it to {expected:?} when logging the model")),
        }
    }

    pub(super) fn parse(content: Vec<u8>) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Yaml {
            flavors: Option<BTreeMap<String, serde_json::Value>>,
            metadata: Option<Metadata>,
            signature: Option<Signature>,
        }
        #[derive(Deserialize)]
        struct DataOfFlavor {
            data: Option<String>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            aibuyer_contract: Option<String>,
        }
        #[derive(Default, Deserialize)]
        struct Signature {
            inputs: Option<String>,
            outputs: Option<String>,
        }
        let parsed: Yaml = serde_saphyr::from_str(&text(MLMODEL, content)?)
            .map_err(|error| LoadError::MlModel(format!("is not the YAML that MLflow writes: {error}")))?;
        let Some(mut flavors) = parsed.flavors else {
            return Err(LoadError::MlModel("has no `flavors`: truncated? Log the model again".to_owned()));
        };
        let known = [("onnx", Flavor::Onnx), ("prophet", Flavor::Prophet)];
        let known = known.into_iter().find_map(|(name, flavor)| Some((name, flavor, flavors.remove(name)?)));
        let Some((name, flavor, content)) = known else {
            let found: Vec<String> = flavors.into_keys().collect();
            let remedy = "log the model with mlflow.onnx or mlflow.prophet";
            let reason = format!("has neither an `onnx` nor a `prophet` flavor, but {}: {remedy}", found.join(", "));
            return Err(LoadError::MlModel(reason));
        };
        let content: Option<DataOfFlavor> =
            serde_json::from_value(content).map_err(|error| LoadError::MlModel(format!("flavors.{name}: {error}")))?;
        let Signature { inputs, outputs } = parsed.signature.unwrap_or_default();
        Ok(Self {
            flavor,
            data: content.and_then(|content| content.data),
            contract: parsed.metadata.and_then(|m| m.aibuyer_contract),
            declared: Declared::parse(inputs.as_deref(), outputs.as_deref()),
        })
    }
}
