//! What a lane needs of an inference runtime.

use aibuyer_domain::model::Signature;
use prost::bytes::Bytes;

use crate::{device::Placement, tensor::Tensor};

/// A run that failed. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// A loaded model that runs one batch at a time.
pub trait Session: Send {
    /// Names, types and shapes of the model's inputs and outputs.
    fn signature(&self) -> Signature;

    /// Where it runs.
    fn placement(&self) -> Placement {
        Placement::default()
    }

    /// Runs the model on all of its inputs, in the signature's order, and gives all of its outputs likewise.
    ///
    /// # Errors
    /// [`RunError`] when the runtime refuses; there are no outputs then.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError>;
}

/// Opens sessions.
pub trait Runtime: Send + Sync {
    /// Opens sessions on a model file's content; they may share its weights.
    ///
    /// # Errors
    /// [`RunError`] when the runtime cannot read the model.
    fn open(&self, model: &Bytes, sessions: usize) -> Result<Vec<Box<dyn Session>>, RunError>;

    /// Where sessions run unless they say otherwise.
    fn placement(&self) -> Placement {
        Placement::default()
    }
}
