//! Which device this process can use: asked of ONNX Runtime, and tried with a session.

use ort::{
    environment::Environment,
    ep::{CUDA, ExecutionProvider as _},
    session::Session,
};

use super::cuda;
use crate::device::{CudaRun, Device, DeviceChoice, Placement};

/// One node that every provider has.
const PROBE: &[u8] = include_bytes!("probe.onnx");

/// The device that was asked for, and how to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Which.
    pub choice: DeviceChoice,
    /// Bytes that the arena of each session may take of a GPU's memory; 0 for as many as there are.
    pub memory: usize,
    /// How a GPU is given batches.
    pub run: CudaRun,
}

impl Default for DeviceOptions {
    /// The CPU: what somebody gets who asks for nothing.
    fn default() -> Self {
        Self { choice: DeviceChoice::Only(Device::Cpu), memory: 0, run: CudaRun::default() }
    }
}

/// A GPU that was asked for by name cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{device} cannot be used: {reason}. onnxruntime.library must name the library of an onnxruntime-gpu package, \
     beside its libonnxruntime_providers_shared.so and libonnxruntime_providers_cuda.so; the folders of CUDA's \
     libraries (libcudart, libcublas, libcublasLt, libcurand) must be in LD_LIBRARY_PATH. onnxruntime.device = \
     \"auto\" goes on without a GPU"
)]
pub struct DeviceError {
    device: Device,
    reason: String,
}

/// What a choice comes to; `probe` says why a GPU cannot be used.
pub(super) fn resolve(
    choice: DeviceChoice,
    probe: impl Fn(u16) -> Result<(), String>,
) -> Result<Placement, DeviceError> {
    let on = |device, reason: String| Placement { device, graphs: false, reason };
    match choice {
        DeviceChoice::Only(Device::Cpu) => Ok(on(Device::Cpu, String::new())),
        DeviceChoice::Only(device @ Device::Cuda(id)) => match probe(id) {
            Ok(()) => Ok(on(device, String::new())),
            Err(reason) => Err(DeviceError { device, reason }),
        },
        DeviceChoice::Auto => Ok(match probe(0) {
            Ok(()) => on(Device::Cuda(0), String::new()),
            Err(reason) => on(Device::Cpu, reason),
        }),
    }
}

/// Opens a session on the GPU: only that loads the provider's library, CUDA's own, and finds the device.
pub(super) fn probe(environment: &Environment, id: u16, options: &DeviceOptions) -> Result<(), String> {
    if !CUDA::is_available().map_err(|e| e.to_string())? {
        return Err("this ONNX Runtime library has no CUDA provider".to_owned());
    }
    let open = || -> ort::Result<Session> {
        let provider = cuda::provider(id, options.memory).build().error_on_failure();
        let mut builder = Session::builder(environment)?.with_execution_providers([provider])?;
        builder = builder.with_disable_cpu_fallback()?;
        builder.commit_from_memory(PROBE)
    };
    // Its messages may end in a new line.
    open().map(drop).map_err(|e| format!("the CUDA provider does not start: {}", e.to_string().trim_end()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_comes_to_a_device_or_to_a_reason() {
        let works = |_| Ok(());
        let none = |_| Err("no driver".to_owned());
        let cuda = |id| Placement { device: Device::Cuda(id), ..Placement::default() };
        assert_eq!(resolve(DeviceChoice::Auto, works).unwrap(), cuda(0));
        assert_eq!(resolve(DeviceChoice::Only(Device::Cuda(2)), works).unwrap(), cuda(2));
        assert_eq!(resolve(DeviceChoice::Only(Device::Cpu), works).unwrap(), Placement::default());
        assert_eq!(resolve(DeviceChoice::Auto, none).unwrap().to_string(), "cpu: no driver");
        let error = resolve(DeviceChoice::Only(Device::Cuda(2)), none).unwrap_err().to_string();
        for part in ["cuda:2 cannot be used: no driver", "onnxruntime.library", "LD_LIBRARY_PATH"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
