//! Verifying and warming a CTR model: its contract, its hashes, its worked examples.

use aibuyer_domain::{
    ctr::{Calibration, Encoder, FeatureSpec, Profile, Rows, Vocabulary, golden, stored::Stored},
    feature_view::FeatureView,
    model::Signature,
};

use super::{
    files::{Files, MlModel, text},
    scan, still,
};
use crate::{
    error::LoadError,
    session::{ModelFiles, Session},
    tensor::{Elements, Tensor},
};

/// Name of the feature spec.
pub(super) const FEATURE_SPEC: &str = "feature_spec.json";

/// What a CTR model has beside its graph.
#[derive(Debug)]
pub struct CtrFiles {
    /// The checked spec.
    pub spec: FeatureSpec,
    /// The encoder of the spec.
    pub encoder: Encoder,
    /// What comes from feature views, [`FeatureView::all`].
    pub stored: Stored,
    /// What the trainer measured; absent where the model has no intervals.
    pub calibration: Option<Calibration>,
    /// How features were distributed in training, if the trainer said so.
    pub profile: Option<Profile>,
    examples: Vec<golden::Golden>,
    example_rows: Rows,
}

/// Log-odds and their variances.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// Log-odds, one a row.
    pub logits: Vec<f32>,
    /// Variances of the log-odds, one a row; `None` where the model gives none.
    pub variances: Option<Vec<f32>>,
}

/// Where the contract's tensors stand in a session's signature.
#[derive(Debug, Clone)]
pub struct Places {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Places {
    /// Of a signature that was checked against the spec.
    #[must_use]
    pub fn new(signature: &Signature) -> Self {
        let names = |tensors: &[aibuyer_domain::model::TensorInfo]| tensors.iter().map(|t| t.name.clone()).collect();
        Self { inputs: names(&signature.inputs), outputs: names(&signature.outputs) }
    }

    /// Rows as the session takes them.
    #[must_use]
    pub fn tensors(&self, mut rows: Rows) -> Vec<Tensor> {
        let tensor = |name: &String| match name.as_str() {
            "ids" => Tensor::matrix(rows.len, Elements::I64(std::mem::take(&mut rows.ids))),
            _ => Tensor::matrix(rows.len, Elements::F32(std::mem::take(&mut rows.dense))),
        };
        self.inputs.iter().map(tensor).collect()
    }

    /// Rows from tensors that fit the signature: the way back from [`Self::tensors`].
    #[must_use]
    pub fn rows(&self, tensors: Vec<Tensor>) -> Rows {
        let mut rows = Rows { len: tensors.first().map_or(0, Tensor::rows), ..Rows::default() };
        for tensor in tensors {
            match tensor.elements {
                Elements::I64(ids) => rows.ids = ids,
                Elements::F32(dense) => rows.dense = dense,
                _ => {}
            }
        }
        rows
    }

    /// What the session gave for so many rows; an error where it is not one number a row.
    ///
    /// # Errors
    /// What came out instead, for the log.
    pub fn outputs(&self, tensors: Vec<Tensor>, rows: usize) -> Result<Outputs, String> {
        let (mut logits, mut variances) = (None, None);
        for (name, tensor) in self.outputs.iter().zip(tensors) {
            let Tensor { shape, elements: Elements::F32(values) } = tensor else {
                return Err(format!("{name} is not float32"));
            };
            if values.len() != rows {
                return Err(format!("{rows} rows went in, {name} of shape {shape:?} came out"));
            }
            *if name == "logit" { &mut logits } else { &mut variances } = Some(values);
        }
        Ok(Outputs { logits: logits.ok_or("no logit came out")?, variances })
    }
}

impl CtrFiles {
    /// Reads every file, checks it against the spec's hashes, and encodes the worked examples. Gives the
    /// model file's name, and the model, as well.
    pub(super) fn verify(files: &mut Files, mlmodel: &MlModel) -> Result<(Self, String, ModelFiles), LoadError> {
        let spec = FeatureSpec::parse(&files.read(FEATURE_SPEC)?)?;
        mlmodel.check(FEATURE_SPEC, &spec.model.file, spec.contract_version)?;
        let stored = Stored::resolve(&spec, &FeatureView::all())?;
        let mut contents = files.hashed(FEATURE_SPEC, &spec.files_sha256)?;
        // `FeatureSpec::parse` made sure that every file it refers to is among the hashed ones.
        let mut take = |file: &str| contents.remove(file).unwrap_or_default();
        let graph = take(&spec.model.file);
        let examples = golden::parse(&text(&spec.golden.file, take(&spec.golden.file))?)?;
        let calibration = match &spec.interval {
            None => None,
            Some(interval) => {
                let file = &interval.calibration;
                let parsed = serde_json::from_slice(&take(file));
                Some(parsed.map_err(|e| LoadError::Content { file: file.clone(), reason: e.to_string() })?)
            }
        };
        let profile = match &spec.profile {
            None => None,
            Some(file) => {
                let parsed = Profile::parse(&take(file), &spec);
                Some(parsed.map_err(|reason| LoadError::Content { file: file.clone(), reason })?)
            }
        };
        let model = scan(&spec.model.file, graph, |location| {
            files.check_inside(location)?;
            contents.remove(location).ok_or_else(|| "it is not among files_sha256 of feature_spec.json".to_owned())
        })?;
        // Two fields may share a vocabulary, so these contents stay.
        let encoder = Encoder::new(&spec, |file, rows| {
            let content = contents.get(file).cloned().unwrap_or_default();
            Vocabulary::parse(&text(file, content)?, rows)
                .map_err(|source| LoadError::Vocabulary { file: file.to_owned(), source })
        })?;
        let example_rows = golden::check_encoding(&encoder, &examples)?;
        golden::check_estimates(&examples)?;
        let file = spec.model.file.clone();
        Ok((Self { spec, encoder, stored, calibration, profile, examples, example_rows }, file, model))
    }

    /// Runs the session on the ends of every field's row range and on the worked examples, alone and as one
    /// batch.
    pub(super) fn check(&self, session: &mut dyn Session, wanted: &dyn Fn() -> bool) -> Result<(), LoadError> {
        let places = Places::new(&session.signature());
        self.check_range(session, &places)?;
        self.check_examples(session, &places, wanted)
    }

    fn check_examples(
        &self,
        session: &mut dyn Session,
        places: &Places,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), LoadError> {
        let rows = &self.example_rows;
        let together = run(session, places, rows.clone(), "the golden examples as one batch")?;
        golden::check_outputs(&self.examples, &self.spec.golden, &together.logits, together.variances.as_deref())?;
        let mut alone = Outputs { logits: Vec::new(), variances: self.spec.has_variance().then(Vec::new) };
        for row in 0..rows.len {
            still(wanted)?;
            let one = run(session, places, slice(rows, row), "a golden example alone")?;
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
    fn check_range(&self, session: &mut dyn Session, places: &Places) -> Result<(), LoadError> {
        const WHAT: &str = "the first and last table rows of every field";
        let mut rows = Rows::default();
        for end in [false, true] {
            rows.ids.extend(self.spec.id_bounds().into_iter().map(|(low, high)| if end { high } else { low }));
            rows.dense.extend(std::iter::repeat_n(0.0, self.spec.columns()));
            rows.len += 1;
        }
        let outputs = run(session, places, rows, WHAT)?;
        let columns = [("logit", Some(&outputs.logits)), ("logit_variance", outputs.variances.as_ref())];
        let wrong = columns
            .into_iter()
            .find_map(|(name, values)| values?.iter().position(|value| !value.is_finite()).map(|row| (name, row)));
        let Some((name, row)) = wrong else { return Ok(()) };
        let end = if row == 0 { "first" } else { "last" };
        let reason = format!("{name} is not a finite number at the {end} rows: look for NaN among the weights");
        Err(LoadError::WarmUp { what: WHAT.to_owned(), reason })
    }

    /// A batch of `size` rows, made of the worked examples over and over.
    pub(super) fn batch(&self, size: usize) -> Rows {
        let mut batch = Rows { len: size, ..Rows::default() };
        for row in 0..size {
            let example = slice(&self.example_rows, row % self.example_rows.len);
            batch.ids.extend(example.ids);
            batch.dense.extend(example.dense);
        }
        batch
    }

    /// How many worked examples the load reproduced.
    #[must_use]
    pub fn golden_examples(&self) -> usize {
        self.examples.len()
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

fn run(session: &mut dyn Session, places: &Places, rows: Rows, what: &str) -> Result<Outputs, LoadError> {
    let fail = |reason: String| LoadError::WarmUp { what: what.to_owned(), reason };
    let len = rows.len;
    let tensors = session.run(&places.tensors(rows)).map_err(|e| fail(e.to_string()))?;
    places.outputs(tensors, len).map_err(fail)
}
