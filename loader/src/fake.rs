//! A session for unit tests whose outputs say which inputs they came from.

use std::sync::mpsc::Receiver;

use aibuyer_domain::model::Signature;

use crate::{
    session::{RunError, Session},
    tensor::{Elements, Tensor},
};

/// An id that makes the run fail.
pub(crate) const FAIL: i64 = -1;
/// An id that makes the run panic.
pub(crate) const PANIC: i64 = -2;

/// Takes ids and gives them back as numbers and as they are.
#[derive(Default)]
pub(crate) struct FakeSession {
    /// When present, each run first waits for a permit.
    pub(crate) gate: Option<Receiver<()>>,
    /// Rows of each run.
    pub(crate) sizes: Option<std::sync::mpsc::Sender<usize>>,
}

impl Session for FakeSession {
    fn signature(&self) -> Signature {
        Signature::default()
    }

    #[allow(clippy::cast_precision_loss)] // test ids are small
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        if let Some(sizes) = &self.sizes {
            let _ = sizes.send(inputs[0].rows());
        }
        let Elements::I64(ids) = &inputs[0].elements else { return Err(RunError("wants int64".to_owned())) };
        assert!(!ids.contains(&PANIC), "told to panic");
        if ids.contains(&FAIL) {
            return Err(RunError("told to fail".to_owned()));
        }
        let numbers = Elements::F32(ids.iter().map(|id| *id as f32).collect());
        Ok(vec![Tensor { shape: vec![ids.len()], elements: numbers }, inputs[0].clone()])
    }
}

/// Rows with these ids.
pub(crate) fn rows(ids: &[i64]) -> Vec<Tensor> {
    vec![Tensor::matrix(ids.len(), Elements::I64(ids.to_vec()))]
}
