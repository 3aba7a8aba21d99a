//! Verifying and warming a forecaster that is an ONNX model: its contract, its hashes, its worked examples.

use aibuyer_domain::forecast::window::{
    ForecastSpec, Missing,
    golden::{self, Golden},
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

/// Name of the forecast spec.
pub(super) const FORECAST_SPEC: &str = "forecast_spec.json";

/// What a forecaster has beside its graph.
#[derive(Debug)]
pub struct WindowFiles {
    /// The checked spec.
    pub spec: ForecastSpec,
    examples: Vec<Golden>,
    /// Of the examples.
    windows: Vec<Vec<f32>>,
}

impl WindowFiles {
    /// Reads every file and checks it against the spec's hashes; prepares the worked examples. Gives the model file's
    /// name, and the model, as well.
    pub(super) fn verify(files: &mut Files, mlmodel: &MlModel) -> Result<(Self, String, ModelFiles), LoadError> {
        let spec = ForecastSpec::parse(&files.read(FORECAST_SPEC)?)?;
        mlmodel.check(FORECAST_SPEC, &spec.model.file, spec.contract_version)?;
        let mut contents = files.hashed(FORECAST_SPEC, &spec.files_sha256)?;
        // `ForecastSpec::parse` made sure that both are among the hashed ones.
        let mut take = |file: &str| contents.remove(file).unwrap_or_default();
        let graph = take(&spec.model.file);
        let examples = golden::parse(&text(&spec.golden.file, take(&spec.golden.file))?, &spec)?;
        let windows = golden::windows(&spec, &examples)?;
        let model = scan(&spec.model.file, graph, |location| {
            files.check_inside(location)?;
            contents.remove(location).ok_or_else(|| format!("it is not among files_sha256 of {FORECAST_SPEC}"))
        })?;
        let file = spec.model.file.clone();
        Ok((Self { spec, examples, windows }, file, model))
    }

    /// Runs a session on the fewest values that the spec allows, and on the worked examples, alone and as one batch.
    pub(super) fn check(&self, session: &mut dyn Session, wanted: &dyn Fn() -> bool) -> Result<(), LoadError> {
        self.check_fewest(session)?;
        let together = self.run(session, self.tensor(0..self.windows.len()), "the golden examples as one batch")?;
        let width = together.len() / self.windows.len().max(1);
        golden::check(&self.examples, &self.spec, together.chunks_exact(width.max(1)))?;
        let mut alone = Vec::new();
        for place in 0..self.windows.len() {
            still(wanted)?;
            alone.push(self.run(session, self.tensor(place..place + 1), "a golden example alone")?);
        }
        golden::check(&self.examples, &self.spec, alone.iter().map(Vec::as_slice))?;
        Ok(())
    }

    /// Missing values where the spec allows them, and values that are all the same: a graph that divides by what it
    /// counts or by a deviation fails here, not under traffic.
    fn check_fewest(&self, session: &mut dyn Session) -> Result<(), LoadError> {
        let what = match self.spec.missing {
            Missing::Reject {} => "a series of equal values",
            Missing::Nan { .. } => "the fewest values that missing.min_values allows, all equal",
        };
        let (length, present) = (self.spec.context_length, self.spec.min_values());
        for value in [0.0, 1.0, 1e6] {
            // At the end, as a series that has only begun, and at the beginning, as one whose last values are late.
            for begin in [0, length - present] {
                let mut window = vec![f32::NAN; length];
                window[begin..begin + present].fill(value);
                let outputs = self.run(session, Tensor::matrix(1, Elements::F32(window)), what)?;
                if let Some(bad) = outputs.iter().find(|output| !output.is_finite()) {
                    let reason = format!("it forecasts {bad} after values of {value}");
                    return Err(LoadError::WarmUp { what: what.to_owned(), reason });
                }
            }
        }
        Ok(())
    }

    fn tensor(&self, places: impl ExactSizeIterator<Item = usize>) -> Tensor {
        let rows = places.len();
        let values = places.flat_map(|place| self.windows[place % self.windows.len()].iter().copied());
        Tensor::matrix(rows, Elements::F32(values.collect()))
    }

    fn run(&self, session: &mut dyn Session, input: Tensor, what: &str) -> Result<Vec<f32>, LoadError> {
        let fail = |reason: String| LoadError::WarmUp { what: what.to_owned(), reason };
        let shape = vec![input.rows(), self.spec.horizon, self.spec.quantiles.len()];
        let outputs = session.run(&[input]).map_err(|e| fail(e.to_string()))?;
        match outputs.into_iter().next() {
            Some(Tensor { shape: found, elements: Elements::F32(values) }) if found == shape => Ok(values),
            Some(other) => Err(fail(format!("{:?} came out where {shape:?} should have", other.shape))),
            None => Err(fail("nothing came out".to_owned())),
        }
    }

    /// A batch of `size` rows, made of the worked examples over and over.
    pub(super) fn batch(&self, size: usize) -> Tensor {
        self.tensor(0..size)
    }

    /// How many worked examples the load reproduced.
    #[must_use]
    pub fn golden_examples(&self) -> usize {
        self.examples.len()
    }
}
