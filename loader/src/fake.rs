//! A session for unit tests whose outputs say which inputs they came from.

use std::sync::mpsc::Receiver;

use aibuyer_domain::{ctr::Rows, model::Signature};

use crate::session::{Inputs, Outputs, RunError, Session};

/// An id that makes the run fail.
pub(crate) const FAIL: i64 = -1;
/// An id that makes the run panic.
pub(crate) const PANIC: i64 = -2;

/// Gives each row the logit `ids[0]` and the variance `dense[0]`.
pub(crate) struct FakeSession {
    /// When present, each run first waits for a permit.
    pub(crate) gate: Option<Receiver<()>>,
}

impl Session for FakeSession {
    fn signature(&self) -> Signature {
        Signature::default()
    }

    #[allow(clippy::cast_precision_loss)] // test ids are small
    fn run(&mut self, inputs: Inputs) -> Result<Outputs, RunError> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        assert!(!inputs.ids.contains(&PANIC), "told to panic");
        if inputs.ids.contains(&FAIL) {
            return Err(RunError("told to fail".to_owned()));
        }
        Ok(Outputs { logits: inputs.ids.iter().map(|id| *id as f32).collect(), variances: Some(inputs.dense.to_vec()) })
    }
}

/// Rows with these ids, one slot, and their negatives as the one dense column.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn rows(ids: &[i64]) -> Rows {
    Rows { len: ids.len(), ids: ids.to_vec(), dense: ids.iter().map(|id| -(*id as f32)).collect() }
}
