//! Sessions of ONNX Runtime on an NVIDIA GPU.
//!
//! Weights are not shared between a version's sessions here: each holds its copy in the GPU's memory.

use ort::{
    ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, cuda::ConvAlgorithmSearch},
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{self, builder::SessionBuilder},
};
use prost::bytes::Bytes;

use super::{
    bound::{BoundSession, Buffers},
    device::DeviceOptions,
};
use crate::{
    device::{CudaRun, Device, Placement},
    session::Session,
};

/// The CUDA provider, so that a session that cannot have it fails. Memory is taken as it is needed: fixed buckets
/// ask for the same sizes over and over. cuDNN is left to models that need it.
pub(super) fn provider(id: u16, memory: usize, graphs: bool) -> ExecutionProviderDispatch {
    let mut provider = CUDA::default()
        .with_device_id(id.into())
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .with_tf32(false)
        .with_cuda_graph(graphs)
        // A heuristic, not the default's benchmark of every convolution on every new shape.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
    if memory > 0 {
        provider = provider.with_memory_limit(memory);
    }
    provider.build().error_on_failure()
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
    let one = |graphs: bool| -> ort::Result<session::Session> {
        let builder = builder()?.with_execution_providers([provider(id, options.memory, graphs)])?;
        // Weights go straight to the device, not through the arena, which would keep room for them.
        builder.with_device_allocated_initializers()?.commit_from_memory(model)
    };
    let mut placement =
        Placement { device: Device::Cuda(id), graphs: options.run == CudaRun::Graphs, reason: String::new() };
    let mut opened = Vec::with_capacity(sessions);
    while opened.len() < sessions {
        let session = match one(placement.graphs) {
            Err(error) if placement.graphs => {
                placement.graphs = false;
                placement.reason = format!("no CUDA graphs for this model: {error}");
                tracing::warn!(device = %placement.device, %error, "this model runs without CUDA graphs");
                continue;
            }
            session => session?,
        };
        let buffers = match (options.run, placement.graphs) {
            (CudaRun::Plain, _) => Buffers::None,
            (_, false) => Buffers::Host(pinned(&session, id)?),
            (_, true) => Buffers::Device { host: pinned(&session, id)?, device: memory(&session, id)? },
        };
        opened.push(Box::new(BoundSession::new(session, buffers, placement.clone())?) as Box<dyn Session>);
    }
    Ok(opened)
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
