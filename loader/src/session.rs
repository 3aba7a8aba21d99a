//! What a lane needs of an inference runtime.

use aibuyer_domain::model::Signature;
use prost::bytes::Bytes;

/// Inputs of one run, row after row.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Number of rows, 1 or more.
    pub rows: usize,
    /// Table rows, `[rows, slots]`.
    pub ids: &'a [i64],
    /// Dense features, `[rows, columns]`; empty where the model has none.
    pub dense: &'a [f32],
}

/// Outputs of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// Log-odds, one a row.
    pub logits: Vec<f32>,
    /// Variances of the log-odds, one a row; `None` where the model gives none.
    pub variances: Option<Vec<f32>>,
}

/// A run that failed. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// A loaded model that one thread runs.
pub trait Session: Send {
    /// Names, types and shapes of the model's inputs and outputs.
    fn signature(&self) -> Signature;

    /// Runs the model on one batch.
    ///
    /// # Errors
    /// [`RunError`] when the runtime refuses; no row has an output then.
    fn run(&mut self, inputs: Inputs) -> Result<Outputs, RunError>;
}

/// Opens sessions.
pub trait Runtime: Send + Sync {
    /// Opens sessions on a model file's content; they may share its weights.
    ///
    /// # Errors
    /// [`RunError`] when the runtime cannot read the model.
    fn open(&self, model: &Bytes, sessions: usize) -> Result<Vec<Box<dyn Session>>, RunError>;
}
