//! A session whose batches of one size use the same buffers over and over (ONNX Runtime's IO binding).
//!
//! A GPU copies from pinned memory without help, and a CUDA graph replays the addresses that it was recorded with.
//! Nothing here is of a GPU but the allocators, so that tests run it on the CPU.
//!
//! Binding an input that lies elsewhere than the model wants it copies it there and then, to a new address. So
//! there are two ways: bind anew for every run, or bind buffers of the device once and copy into them.

use std::collections::BTreeMap;

use aibuyer_domain::model::{Signature, TensorInfo};
use ort::{
    memory::Allocator,
    session::{self, IoBinding, RunOptions, SessionInputValue},
    value::{DynTensor, TensorElementType},
};

use super::session::{element_type, signature, tensor, value};
use crate::{
    device::Placement,
    session::{RunError, Session},
    tensor::{Elements, Tensor, each},
};

/// Sizes that may have buffers: the powers of two and the largest batch are fewer.
const MOST: usize = 32;

/// Names a CUDA graph among those of a session.
const GRAPH: &str = "gpu_graph_id";

/// Where buffers lie.
pub(super) enum Buffers {
    /// There are none: every run is given and gives its own.
    None,
    /// In memory that the machine can write and the device reads.
    Host(Allocator),
    /// In both, with copies between them.
    Device {
        /// The machine's.
        host: Allocator,
        /// The device's.
        device: Allocator,
    },
}

/// A session with buffers for each size that came twice.
pub(super) struct BoundSession {
    // Fields are dropped in this order: buffers before what gave them.
    bindings: BTreeMap<usize, Option<Binding>>,
    buffers: Buffers,
    session: session::Session,
    signature: Signature,
    placement: Placement,
    /// For runs that no graph is made of.
    plain: RunOptions,
    /// Whether a run with the device's buffers has succeeded.
    proven: bool,
}

impl BoundSession {
    pub(super) fn new(session: session::Session, buffers: Buffers, mut placement: Placement) -> ort::Result<Self> {
        let signature = signature(&session);
        let has = |dtype| signature.inputs.iter().chain(&signature.outputs).any(|t| t.dtype == dtype);
        // Texts have no bytes that could be copied, and ort copies between memories by a model that knows no bfloat16.
        let unfit = has("string") || matches!(buffers, Buffers::Device { .. }) && has("bfloat16");
        let buffers = if unfit { Buffers::None } else { buffers };
        if unfit && placement.graphs {
            placement.graphs = false;
            "no CUDA graphs for models of strings or bfloat16".clone_into(&mut placement.reason);
        }
        let mut plain = RunOptions::new()?;
        plain.set(GRAPH, "-1")?;
        Ok(Self { bindings: BTreeMap::new(), buffers, session, signature, placement, plain, proven: false })
    }

    fn try_run(&mut self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        let Some(rows) = self.bindable(inputs) else { return self.run_plain(inputs) };
        let known = self.bindings.len();
        match self.bindings.get_mut(&rows) {
            None if known < MOST => {
                self.bindings.insert(rows, None);
                return self.run_plain(inputs);
            }
            None => return self.run_plain(inputs),
            Some(slot @ None) => *slot = Some(Binding::new(&self.session, &self.signature, &self.buffers, rows)?),
            Some(Some(_)) => {}
        }
        let Some(Some(binding)) = self.bindings.get_mut(&rows) else { return self.run_plain(inputs) };
        let result = binding.run(&mut self.session, &self.signature, inputs);
        match result {
            Err(error) if self.placement.graphs && !self.proven => {
                self.without_graphs(&error);
                self.run_plain(inputs)
            }
            result => {
                self.proven |= result.is_ok();
                result
            }
        }
    }

    fn run_plain(&mut self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        let values: Vec<SessionInputValue> = inputs.iter().map(value).collect::<ort::Result<_>>()?;
        // By position: names would be looked up and copied for every run.
        let outputs = self.session.run_with_options(values.as_slice(), &self.plain)?;
        (0..outputs.len()).map(|i| tensor(&outputs[i])).collect()
    }

    /// A model may open with graphs and still not be recorded as one.
    fn without_graphs(&mut self, error: &ort::Error) {
        tracing::warn!(device = %self.placement.device, %error, "no CUDA graph can be made; this model runs without");
        self.placement.graphs = false;
        self.placement.reason = format!("no CUDA graphs for this model: {error}");
        self.bindings.clear();
        self.buffers = Buffers::None;
    }

    /// The rows of a batch whose tensors' sizes follow from it.
    fn bindable(&self, inputs: &[Tensor]) -> Option<usize> {
        let rows = inputs.first()?.rows();
        let fits = |(tensor, info): (&Tensor, &TensorInfo)| {
            tensor.elements.dtype() == info.dtype && shape(info, rows).is_some_and(|shape| shape == tensor.shape)
        };
        let buffers = !matches!(self.buffers, Buffers::None) && rows > 0;
        let inputs = inputs.len() == self.signature.inputs.len() && inputs.iter().zip(&self.signature.inputs).all(fits);
        (buffers && inputs && self.signature.outputs.iter().all(|o| shape(o, rows).is_some())).then_some(rows)
    }
}

impl Session for BoundSession {
    fn signature(&self) -> Signature {
        self.signature.clone()
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.try_run(inputs).map_err(|e| RunError(e.to_string()))
    }
}

/// The shape for so many rows, where nothing but the first dimension varies.
fn shape(info: &TensorInfo, rows: usize) -> Option<Vec<usize>> {
    let (first, rest) = info.shape.split_first()?;
    let rest: Vec<usize> = rest.iter().copied().collect::<Option<_>>()?;
    first.is_none().then(|| std::iter::once(rows).chain(rest).collect())
}

/// A tensor of the machine's, and its twin on the device where it needs one.
struct Buffer {
    host: DynTensor,
    device: Option<DynTensor>,
}

/// The buffers of one size.
struct Binding {
    binding: IoBinding,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    options: RunOptions,
}

impl Binding {
    fn new(session: &session::Session, signature: &Signature, buffers: &Buffers, rows: usize) -> ort::Result<Self> {
        let buffer = |info: &TensorInfo| -> ort::Result<Buffer> {
            let ty = element_type(&info.dtype).unwrap_or(TensorElementType::Undefined);
            let new = |from: &Allocator| DynTensor::new(from, ty, shape(info, rows).unwrap_or_default());
            Ok(match buffers {
                Buffers::None => Buffer { host: new(&Allocator::default())?, device: None },
                Buffers::Host(host) => Buffer { host: new(host)?, device: None },
                Buffers::Device { host, device } => Buffer { host: new(host)?, device: Some(new(device)?) },
            })
        };
        let inputs: Vec<Buffer> = signature.inputs.iter().map(&buffer).collect::<ort::Result<_>>()?;
        let mut outputs: Vec<Buffer> = signature.outputs.iter().map(&buffer).collect::<ort::Result<_>>()?;
        let mut binding = session.create_binding()?;
        for (info, input) in signature.inputs.iter().zip(&inputs) {
            if let Some(device) = &input.device {
                binding.bind_input(&info.name, device)?;
            }
        }
        for (info, output) in signature.outputs.iter().zip(&mut outputs) {
            binding.bind_output(&info.name, output.device.as_mut().unwrap_or(&mut output.host))?;
        }
        let mut options = RunOptions::new()?;
        // Without graphs nobody reads it.
        options.set(GRAPH, rows.to_string())?;
        Ok(Self { binding, inputs, outputs, options })
    }

    fn run(
        &mut self,
        session: &mut session::Session,
        signature: &Signature,
        inputs: &[Tensor],
    ) -> ort::Result<Vec<Tensor>> {
        for ((tensor, info), buffer) in inputs.iter().zip(&signature.inputs).zip(&mut self.inputs) {
            each!(
                &tensor.elements,
                values => buffer.host.try_extract_tensor_mut()?.1.copy_from_slice(values),
                _ => return Err(ort::Error::new("text has no buffers"))
            );
            match &mut buffer.device {
                Some(device) => buffer.host.copy_into(device)?,
                // Owned tensors only: ort waits for itself for ever where a borrowed one is bound.
                None => self.binding.bind_input(&info.name, &buffer.host)?,
            }
        }
        session.run_binding_with_options(&self.binding, &self.options)?;
        let read = |buffer: &mut Buffer| {
            if let Some(device) = &buffer.device {
                device.copy_into(&mut buffer.host)?;
            }
            tensor(&buffer.host)
        };
        self.outputs.iter_mut().map(read).collect()
    }
}

#[cfg(test)]
mod tests;
