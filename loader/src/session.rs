//! What a lane needs of an inference runtime.

use std::{collections::BTreeMap, sync::Arc};

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

/// A model file's content, and that of the files that hold its weights: all that a runtime reads.
#[derive(Debug, Clone, Default)]
pub struct ModelFiles {
    /// The model file.
    pub graph: Bytes,
    /// The others, by the names that the model file has for them.
    pub external: BTreeMap<String, Arc<[u8]>>,
}

impl From<Vec<u8>> for ModelFiles {
    /// A model in one file.
    fn from(graph: Vec<u8>) -> Self {
        Self { graph: graph.into(), external: BTreeMap::new() }
    }
}

/// Opens sessions.
pub trait Runtime: Send + Sync {
    /// Opens sessions on a model; they may share its weights. `wanted` is asked before each.
    ///
    /// # Errors
    /// [`RunError`] when the runtime cannot read the model, or the sessions are not wanted any more.
    fn open(
        &self,
        model: &ModelFiles,
        sessions: usize,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Box<dyn Session>>, RunError>;

    /// Where sessions run unless they say otherwise.
    fn placement(&self) -> Placement {
        Placement::default()
    }
}
