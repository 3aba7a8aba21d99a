//! A version's way from its files to a servable, as types that are used up:
//! [`Located`] → [`Fetched`] → [`Verified`] → [`Opened`] → [`Warmed`].
//!
//! Each step takes the one before by value, so an unverified file cannot be opened and a cold session cannot
//! serve. File contents are read once: what was hashed is what is opened.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use aibuyer_domain::{
    ctr::{Calibration, Encoder, FeatureSpec, Rows, Vocabulary, golden},
    model::{ArtifactStore, ServableId},
};
use prost::bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    error::LoadError,
    session::{Inputs, Outputs, Runtime, Session},
};

/// Name of the file that MLflow writes beside every model.
const MLMODEL: &str = "MLmodel";
/// Name of the feature spec.
const FEATURE_SPEC: &str = "feature_spec.json";

/// A version that the registry knows.
#[derive(Debug)]
pub struct Located {
    /// Which.
    pub id: ServableId,
}

/// Its files are on local disk.
#[derive(Debug)]
pub struct Fetched {
    id: ServableId,
    folder: PathBuf,
}

/// Its files are whole, and the encoder reproduces the worked examples.
#[derive(Debug)]
pub struct Verified {
    /// Which.
    pub id: ServableId,
    /// The checked spec.
    pub spec: FeatureSpec,
    /// The encoder of the spec.
    pub encoder: Encoder,
    /// What the trainer measured; absent where the model has no intervals.
    pub calibration: Option<Calibration>,
    /// Bytes of all files that were read.
    pub bytes: u64,
    examples: Vec<golden::Golden>,
    example_rows: Rows,
    model: Vec<u8>,
}

/// The runtime has opened it, once for each lane, and its signature fits.
pub struct Opened {
    verified: Verified,
    sessions: Vec<Box<dyn Session>>,
}

/// Its outputs are right and every session has run.
pub struct Warmed {
    /// Spec, encoder and calibration.
    pub verified: Verified,
    /// One warm session for each lane.
    pub sessions: Vec<Box<dyn Session>>,
}

impl Located {
    /// Brings the files to local disk.
    ///
    /// # Errors
    /// [`LoadError::Fetch`].
    pub fn fetch(self, store: &dyn ArtifactStore) -> Result<Fetched, LoadError> {
        let folder = store.fetch(&self.id)?;
        Ok(Fetched { id: self.id, folder })
    }
}

impl Fetched {
    /// The folder `folder` as version `id`, for looking at a model outside any registry.
    #[must_use]
    pub fn local(id: ServableId, folder: impl Into<PathBuf>) -> Self {
        Self { id, folder: folder.into() }
    }

    /// Reads every file, checks it against the spec's hashes, and encodes the worked examples.
    ///
    /// # Errors
    /// [`LoadError`] names the file and the check.
    pub fn verify(self) -> Result<Verified, LoadError> {
        let mut files = Files { folder: self.folder, bytes: 0 };
        let mlmodel = files.read(MLMODEL)?;
        let spec = FeatureSpec::parse(&files.read(FEATURE_SPEC)?)?;
        check_mlmodel(&text(MLMODEL, mlmodel)?, &spec)?;
        let mut contents = BTreeMap::new();
        for (file, expected) in &spec.files_sha256 {
            let content = files.read(file)?;
            let actual: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
            if actual != *expected {
                return Err(LoadError::Digest { file: file.clone(), expected: expected.clone(), actual });
            }
            contents.insert(file.as_str(), content);
        }
        // `FeatureSpec::parse` made sure that every file it refers to is among the hashed ones.
        let mut take = |file: &str| contents.remove(file).unwrap_or_default();
        let model = take(&spec.model.file);
        let examples = golden::parse(&text(&spec.golden.file, take(&spec.golden.file))?)?;
        let calibration = match &spec.interval {
            None => None,
            Some(interval) => {
                let file = &interval.calibration;
                let parsed = serde_json::from_slice(&take(file));
                Some(parsed.map_err(|e| LoadError::Content { file: file.clone(), reason: e.to_string() })?)
            }
        };
        // Two fields may share a vocabulary, so these contents stay.
        let encoder = Encoder::new(&spec, |file, rows| {
            let content = contents.get(file).cloned().unwrap_or_default();
            Vocabulary::parse(&text(file, content)?, rows)
                .map_err(|source| LoadError::Vocabulary { file: file.to_owned(), source })
        })?;
        let example_rows = golden::check_encoding(&encoder, &examples)?;
        golden::check_estimates(&examples)?;
        let bytes = files.bytes;
        Ok(Verified { id: self.id, spec, encoder, calibration, bytes, examples, example_rows, model })
    }
}

/// Reads files of one folder.
struct Files {
    folder: PathBuf,
    bytes: u64,
}

impl Files {
    fn read(&mut self, file: &str) -> Result<Vec<u8>, LoadError> {
        let path: &Path = &self.folder.join(file);
        let content = fs::read(path).map_err(|source| LoadError::Read { file: file.to_owned(), source })?;
        self.bytes += content.len() as u64;
        Ok(content)
    }
}

fn text(file: &str, content: Vec<u8>) -> Result<String, LoadError> {
    String::from_utf8(content).map_err(|e| LoadError::Content { file: file.to_owned(), reason: e.to_string() })
}

/// Checks what MLflow says about the model against the spec.
fn check_mlmodel(yaml: &str, spec: &FeatureSpec) -> Result<(), LoadError> {
    #[derive(Deserialize)]
    struct MlModel {
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
    let fail = |reason: String| Err(LoadError::MlModel(reason));
    let parsed: MlModel = match serde_saphyr::from_str(yaml) {
        Ok(parsed) => parsed,
        Err(error) => return fail(format!("is not the YAML that MLflow writes: {error}")),
    };
    let Some(onnx) = parsed.flavors.onnx else {
        return fail("has no `onnx` flavor: log the model with mlflow.onnx".to_owned());
    };
    match onnx.data {
        Some(data) if data != spec.model.file => {
            return fail(format!("flavors.onnx.data is {data:?}, feature_spec.json has {:?}", spec.model.file));
        }
        _ => {}
    }
    let contract = parsed.metadata.and_then(|m| m.aibuyer_contract);
    let expected = spec.contract_version.to_string();
    match contract {
        Some(found) if found == expected => Ok(()),
        Some(found) => fail(format!("metadata.aibuyer_contract is {found:?}, must be {expected:?}")),
        None => fail(format!("has no metadata.aibuyer_contract: set it to {expected:?} when logging the model")),
    }
}

impl Verified {
    /// Opens one session for each lane and checks the model's signature.
    ///
    /// # Errors
    /// [`LoadError::Open`] or [`LoadError::Signature`].
    pub fn open(mut self, runtime: &dyn Runtime, lanes: usize) -> Result<Opened, LoadError> {
        let model = Bytes::from(std::mem::take(&mut self.model));
        let opened = runtime.open(&model, lanes);
        let sessions = opened.map_err(|source| LoadError::Open { file: self.spec.model.file.clone(), source })?;
        for session in &sessions {
            if let Some(reason) = self.spec.signature().mismatch(&session.signature()) {
                return Err(LoadError::Signature(reason));
            }
        }
        Ok(Opened { verified: self, sessions })
    }
}

impl Opened {
    /// Runs every session: the ends of every field's row range, the worked examples alone and as one batch,
    /// and every power of two up to `max_batch_rows`.
    ///
    /// # Errors
    /// [`LoadError::Golden`] or [`LoadError::WarmUp`].
    pub fn warm(mut self, max_batch_rows: usize) -> Result<Warmed, LoadError> {
        for session in &mut self.sessions {
            let session = session.as_mut();
            self.verified.check_range(session)?;
            self.verified.check_examples(session)?;
            self.verified.run_buckets(session, max_batch_rows)?;
        }
        Ok(Warmed { verified: self.verified, sessions: self.sessions })
    }
}

impl Verified {
    fn check_examples(&self, session: &mut dyn Session) -> Result<(), LoadError> {
        let rows = &self.example_rows;
        let together = run(session, rows, "the golden examples as one batch")?;
        golden::check_outputs(&self.examples, &self.spec.golden, &together.logits, together.variances.as_deref())?;
        let mut alone = Outputs { logits: Vec::new(), variances: self.spec.has_variance().then(Vec::new) };
        for row in 0..rows.len {
            let one = run(session, &slice(rows, row), "a golden example alone")?;
            alone.logits.extend(one.logits);
            if let (Some(all), Some(one)) = (&mut alone.variances, one.variances) {
                all.extend(one);
            }
        }
        golden::check_outputs(&self.examples, &self.spec.golden, &alone.logits, alone.variances.as_deref())?;
        Ok(())
    }

    /// The first and last row of each field: a table that is smaller than the spec says fails here, not
    /// under traffic.
    fn check_range(&self, session: &mut dyn Session) -> Result<(), LoadError> {
        let mut rows = Rows::default();
        for end in [false, true] {
            rows.ids.extend(self.spec.id_bounds().into_iter().map(|(low, high)| if end { high } else { low }));
            rows.dense.extend(std::iter::repeat_n(0.0, self.spec.columns()));
            rows.len += 1;
        }
        let outputs = run(session, &rows, "the first and last table rows of every field")?;
        let finite = |v: &[f32]| v.iter().all(|x| x.is_finite());
        if finite(&outputs.logits) && outputs.variances.as_deref().is_none_or(finite) {
            return Ok(());
        }
        let reason = format!("outputs are not finite: {outputs:?}");
        Err(LoadError::WarmUp { what: "the first and last table rows of every field".to_owned(), reason })
    }

    fn run_buckets(&self, session: &mut dyn Session, max_batch_rows: usize) -> Result<(), LoadError> {
        let powers = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < max_batch_rows);
        for size in powers.chain([max_batch_rows]) {
            run(session, &self.examples(size), &format!("a batch of {size}"))?;
        }
        Ok(())
    }

    /// A batch of `size` rows, made of the worked examples over and over.
    pub(crate) fn examples(&self, size: usize) -> Rows {
        let mut batch = Rows { len: size, ..Rows::default() };
        for row in 0..size {
            let example = slice(&self.example_rows, row % self.example_rows.len);
            batch.ids.extend(example.ids);
            batch.dense.extend(example.dense);
        }
        batch
    }
}

fn slice(rows: &Rows, row: usize) -> Rows {
    let (slots, columns) = (rows.ids.len() / rows.len, rows.dense.len() / rows.len);
    Rows {
        len: 1,
        ids: rows.ids[row * slots..(row + 1) * slots].to_vec(),
        dense: rows.dense[row * columns..(row + 1) * columns].to_vec(),
    }
}

fn run(session: &mut dyn Session, rows: &Rows, what: &str) -> Result<Outputs, LoadError> {
    let inputs = Inputs { rows: rows.len, ids: &rows.ids, dense: &rows.dense };
    session.run(inputs).map_err(|e| LoadError::WarmUp { what: what.to_owned(), reason: e.to_string() })
}

impl Warmed {
    /// How closely the worked examples were reproduced is part of the load; this says how many there are.
    #[must_use]
    pub fn golden_examples(&self) -> usize {
        self.verified.examples.len()
    }
}
