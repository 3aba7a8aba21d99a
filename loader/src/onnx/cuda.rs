//! Sessions of ONNX Runtime on an NVIDIA GPU.
//!
//! Weights are not shared between a version's sessions here: each holds its copy in the GPU's memory. Each has a stream
//! of its own, on which copies, kernels and graphs follow each other, and which is waited for once a run.

mod driver;

use ort::{
    ep::{ArenaExtendStrategy, CUDA, cuda::ConvAlgorithmSearch},
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{self, builder::SessionBuilder},
};
use prost::bytes::Bytes;

use super::{
    bound::{BoundSession, Buffers},
    device::DeviceOptions,
};
use driver::Stream;

use crate::{
    device::{CudaRun, Device, Placement},
    session::Session,
};

/// The CUDA provider, so that a session that cannot have it fails. Memory is taken as it is needed: fixed buckets
/// ask for the same sizes over and over. cuDNN is left to models that need it.
pub(super) fn provider(id: u16, memory: usize) -> CUDA {
    let provider = CUDA::default()
        .with_device_id(id.into())
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .with_tf32(false)
        // A heuristic, not the default's benchmark of every convolution on every new shape.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
    if memory > 0 { provider.with_memory_limit(memory) } else { provider }
}

/// Opens sessions on a GPU: with CUDA graphs where they are wanted and ONNX Runtime allows them for this model,
/// else without, which their placement says.
pub(super) fn open(
    builder: &dyn Fn() -> ort::Result<SessionBuilder>,
    model: &Bytes,
    id: u16,
    options: &DeviceOptions,
    sessions: usize,
) -> ort::Result<Vec<Box<dyn Session>>> {
    let mut placement =
        Placement { device: Device::Cuda(id), graphs: options.run == CudaRun::Graphs, reason: String::new() };
    let mut opened = Vec::with_capacity(sessions);
    while opened.len() < sessions {
        let stream = Stream::new(id)?;
        let session = match session_on(
            &stream,
            builder()?,
            model,
            provider(id, options.memory).with_cuda_graph(placement.graphs),
        ) {
            Err(error) if placement.graphs => {
                placement.graphs = false;
                placement.reason = format!("no CUDA graphs for this model: {error}");
                tracing::warn!(device = %placement.device, %error, "this model runs without CUDA graphs");
                continue;
            }
            session => session?,
        };
        let buffers = match options.run {
            CudaRun::Plain => None,
            CudaRun::Bound | CudaRun::Graphs => {
                Some(Buffers { host: pinned(&session, id)?, device: memory(&session, id)? })
            }
        };
        opened.push(
            Box::new(BoundSession::new(Box::new(stream), session, buffers, placement.clone())?) as Box<dyn Session>
        );
    }
    Ok(opened)
}

#[allow(unsafe_code)]
fn session_on(
    stream: &Stream,
    builder: SessionBuilder,
    model: &Bytes,
    provider: CUDA,
) -> ort::Result<session::Session> {
    // SAFETY: a `BoundSession` drops its session before the stream, and where there is none yet, so does its caller.
    let provider = unsafe { provider.with_compute_stream(stream.raw()) };
    let builder = builder.with_execution_providers([provider.build().error_on_failure()])?;
    // Weights go straight to the device, not through the arena, which would keep room for them.
    builder.with_device_allocated_initializers()?.commit_from_memory(model)
}

/// Memory of the machine that the GPU copies from and to without help.
fn pinned(session: &session::Session, id: u16) -> ort::Result<Allocator> {
    let device = AllocationDevice::CUDA_PINNED;
    let info = MemoryInfo::new(device, id.into(), AllocatorType::Device, MemoryType::CPUInput)?;
    Allocator::new(session, info)
}

/// The GPU's own memory.
fn memory(session: &session::Session, id: u16) -> ort::Result<Allocator> {
    let info = MemoryInfo::new(AllocationDevice::CUDA, id.into(), AllocatorType::Device, MemoryType::Default)?;
    Allocator::new(session, info)
}
