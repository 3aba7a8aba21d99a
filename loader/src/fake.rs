//! A session for unit tests whose outputs say which inputs they came from.

use std::sync::mpsc::Receiver;

use aibuyer_domain::model::Signature;
use half::{bf16, f16};

use crate::{
    session::{RunError, Session},
    tensor::{Elements, Tensor},
};

/// An id that makes the run fail.
pub(crate) const FAIL: i64 = -1;
/// An id that makes the run panic.
pub(crate) const PANIC: i64 = -2;

/// Takes ids and gives them back as numbers; all inputs it gives back as they are.
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
        let numbers = Tensor { shape: vec![ids.len()], elements: numbers };
        Ok(std::iter::once(numbers).chain(inputs.iter().cloned()).collect())
    }
}

/// Rows with these ids, and with texts and small floats that follow from them.
#[allow(clippy::cast_precision_loss)] // test ids are small
pub(crate) fn rows(ids: &[i64]) -> Vec<Tensor> {
    let texts = ids.iter().flat_map(|id| [format!("id {id}"), "é".repeat(usize::from(id % 3 == 0))]);
    let halves = ids.iter().map(|id| f16::from_f32(*id as f32));
    let brains = ids.iter().flat_map(|id| [*id, -id, 0].map(|x| bf16::from_f32(x as f32)));
    let all = [
        Elements::I64(ids.to_vec()),
        Elements::Text(texts.collect()),
        Elements::F16(halves.collect()),
        Elements::BF16(brains.collect()),
    ];
    all.into_iter().map(|elements| Tensor::matrix(ids.len(), elements)).collect()
}
