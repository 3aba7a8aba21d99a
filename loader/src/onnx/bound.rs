//! A session on a device of its own: batches of one size use the same buffers over and over (ONNX Runtime's IO
//! binding), which a CUDA graph replays the addresses of.
//!
//! Each size has its buffers on the device and their twins in memory that the device copies from and to without help.
//! Nothing here is of a GPU but who copies, so that tests run it on the CPU.

use std::collections::BTreeMap;

use aibuyer_domain::model::{Signature, TensorInfo};
use ort::{
    memory::Allocator,
    session::{self, IoBinding, RunOptions, SessionInputValue},
    value::{DynTensor, TensorElementType},
};

use super::{
    open::Open,
    session::{element_type, signature, tensor, value},
};
use crate::{
    device::Placement,
    session::{RunError, Session},
    tensor::{Elements, Tensor, each},
};

/// Sizes that may have buffers: the powers of two and the largest batch are fewer.
const MOST: usize = 32;

/// Names a CUDA graph among those of a session.
const GRAPH: &str = "gpu_graph_id";

/// Copies between the machine's memory and a device's, in the order in which they and the session's runs are asked for.
pub(super) trait Copies: Send {
    /// Comes before all else that a thread does with the device.
    fn enter(&self) -> ort::Result<()>;
    /// Begins a copy to a tensor of the device's. Neither tensor may be touched before [`Copies::finish`].
    fn to_device(&self, host: &DynTensor, device: &mut DynTensor) -> ort::Result<()>;
    /// Begins a copy from a tensor of the device's, likewise.
    fn to_host(&self, device: &DynTensor, host: &mut DynTensor) -> ort::Result<()>;
    /// Waits until all that was begun is done.
    fn finish(&self) -> ort::Result<()>;
    /// Ends the recording of a graph that failed on the way.
    fn abandon(&self);
}

/// Where buffers lie.
pub(super) struct Buffers {
    /// In memory that the machine can write and the device reads.
    pub(super) host: Allocator,
    /// In the device's.
    pub(super) device: Allocator,
}

/// A session with buffers for each size that came twice.
pub(super) struct BoundSession {
    // Fields are dropped in this order: buffers before what gave them.
    bindings: BTreeMap<usize, Option<Binding>>,
    buffers: Option<Buffers>,
    session: session::Session,
    copies: Box<dyn Copies>,
    signature: Signature,
    placement: Placement,
    /// For runs that no graph is made of.
    plain: RunOptions,
    _open: Open,
}

impl BoundSession {
    pub(super) fn new(
        // In this order: what comes last is dropped first.
        copies: Box<dyn Copies>,
        session: session::Session,
        buffers: Option<Buffers>,
        mut placement: Placement,
    ) -> ort::Result<Self> {
        let signature = signature(&session);
        // Texts have no bytes that could be copied.
        let unfit = signature.inputs.iter().chain(&signature.outputs).any(|t| t.dtype == "string");
        let buffers = buffers.filter(|_| !unfit);
        if unfit && placement.graphs {
            placement.graphs = false;
            "no CUDA graphs for models of strings".clone_into(&mut placement.reason);
        }
        let mut plain = RunOptions::new()?;
        plain.set(GRAPH, "-1")?;
        let (bindings, open) = (BTreeMap::new(), Open::new());
        Ok(Self { bindings, buffers, session, copies, signature, placement, plain, _open: open })
    }

    fn try_run(&mut self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        self.copies.enter()?;
        let Some(rows) = self.bindable(inputs) else { return self.run_plain(inputs) };
        let Some(buffers) = &self.buffers else { return self.run_plain(inputs) };
        let known = self.bindings.len();
        match self.bindings.get_mut(&rows) {
            None if known < MOST => {
                self.bindings.insert(rows, None);
                return self.run_plain(inputs);
            }
            None => return self.run_plain(inputs),
            Some(slot @ None) => *slot = Some(Binding::new(&self.session, &self.signature, buffers, rows)?),
            Some(Some(_)) => {}
        }
        let Some(Some(binding)) = self.bindings.get_mut(&rows) else { return self.run_plain(inputs) };
        match binding.run(&mut self.session, self.copies.as_ref(), inputs) {
            // What is wrong with the batch shows without a graph, too.
            Err(error) if self.placement.graphs => {
                self.without_graphs(&error);
                self.run_plain(inputs)
            }
            result => result,
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
        self.copies.abandon();
        self.bindings.clear();
        self.buffers = None;
    }

    /// The rows of a batch whose tensors' sizes follow from it.
    fn bindable(&self, inputs: &[Tensor]) -> Option<usize> {
        let rows = inputs.first()?.rows();
        let fits = |(tensor, info): (&Tensor, &TensorInfo)| {
            tensor.elements.dtype() == info.dtype && shape(info, rows).is_some_and(|shape| shape == tensor.shape)
        };
        let inputs = inputs.len() == self.signature.inputs.len() && inputs.iter().zip(&self.signature.inputs).all(fits);
        (rows > 0 && inputs && self.signature.outputs.iter().all(|o| shape(o, rows).is_some())).then_some(rows)
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

impl Drop for BoundSession {
    fn drop(&mut self) {
        // Without it what follows fails, and can do no better.
        let _ = self.copies.enter();
    }
}

/// A tensor of the machine's, and its twin on the device.
struct Buffer {
    host: DynTensor,
    device: DynTensor,
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
            Ok(Buffer { host: new(&buffers.host)?, device: new(&buffers.device)? })
        };
        let inputs: Vec<Buffer> = signature.inputs.iter().map(&buffer).collect::<ort::Result<_>>()?;
        let mut outputs: Vec<Buffer> = signature.outputs.iter().map(&buffer).collect::<ort::Result<_>>()?;
        let mut binding = session.create_binding()?;
        for (info, input) in signature.inputs.iter().zip(&inputs) {
            binding.bind_input(&info.name, &input.device)?;
        }
        for (info, output) in signature.outputs.iter().zip(&mut outputs) {
            binding.bind_output(&info.name, &mut output.device)?;
        }
        let mut options = RunOptions::new()?;
        // Without graphs nobody reads it.
        options.set(GRAPH, rows.to_string())?;
        // One wait, after the copies back.
        options.disable_device_sync()?;
        Ok(Self { binding, inputs, outputs, options })
    }

    fn run(
        &mut self,
        session: &mut session::Session,
        copies: &dyn Copies,
        inputs: &[Tensor],
    ) -> ort::Result<Vec<Tensor>> {
        let begun = self.begin(session, copies, inputs);
        // Whatever became of it: buffers are not touched before.
        begun.and(copies.finish())?;
        self.outputs.iter().map(|buffer| tensor(&buffer.host)).collect()
    }

    fn begin(&mut self, session: &mut session::Session, copies: &dyn Copies, inputs: &[Tensor]) -> ort::Result<()> {
        for (tensor, buffer) in inputs.iter().zip(&mut self.inputs) {
            each!(
                &tensor.elements,
                values => buffer.host.try_extract_tensor_mut()?.1.copy_from_slice(values),
                _ => return Err(ort::Error::new("text has no buffers"))
            );
            copies.to_device(&buffer.host, &mut buffer.device)?;
        }
        session.run_binding_with_options(&self.binding, &self.options)?;
        self.outputs.iter_mut().try_for_each(|buffer| copies.to_host(&buffer.device, &mut buffer.host))
    }
}

#[cfg(test)]
mod tests;
