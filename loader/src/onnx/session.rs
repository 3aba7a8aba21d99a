//! ONNX Runtime in this process, and its sessions on the CPU: one thread each, no spinning, no thread pool of their
//! own.

use std::{path::Path, sync::Arc};

use super::{
    cuda,
    device::{self, DeviceError, DeviceOptions},
    weights::{self, Weight},
};
use crate::{
    device::{Device, DeviceChoice, Placement},
    session::{ModelFiles, RunError, Runtime, Session},
    tensor::{Elements, Tensor, each},
};
use aibuyer_domain::model::{Signature, TensorInfo};
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{
        self, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{Outlet, Tensor as OrtTensor, TensorElementType, TensorRef, TensorValueTypeMarker, Value, ValueType},
};

/// ONNX Runtime, loaded into this process.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    environment: Environment,
    options: DeviceOptions,
    placement: Placement,
}

/// The shared library was found but cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is not a usable ONNX Runtime library: {reason}. Run `make onnxruntime`, or set onnxruntime.library \
     to version {version} or newer for this machine's processor."
)]
pub struct StartError {
    path: String,
    reason: String,
    version: &'static str,
}

impl OnnxRuntime {
    /// Loads the library at `path`. Once a process: ONNX Runtime has one environment.
    ///
    /// # Errors
    /// [`StartError`] when the file is not ONNX Runtime, is too old, or a runtime was started before.
    pub fn start(path: &Path) -> Result<Self, StartError> {
        let fail =
            |reason: String| StartError { path: path.display().to_string(), reason, version: super::library::VERSION };
        let environment = ort::init_from(path)
            .map_err(|e| fail(e.to_string()))?
            .with_name("aibuyer")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, category: &str, _id: &str, _place: &str, message: &str| match level {
                LogLevel::Verbose | LogLevel::Info => tracing::debug!(category, "{message}"),
                LogLevel::Warning => tracing::warn!(category, "{message}"),
                LogLevel::Error | LogLevel::Fatal => tracing::error!(category, "{message}"),
            }))
            .build()
            .map_err(|e| fail(e.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        Ok(Self { environment, options: DeviceOptions::default(), placement: Placement::default() })
    }

    /// Opens sessions on another device than the CPU from now on, after a try with a small one.
    ///
    /// # Errors
    /// [`DeviceError`] when a GPU was asked for by name and cannot be used.
    pub fn with_device(mut self, options: DeviceOptions) -> Result<Self, DeviceError> {
        self.placement = device::resolve(options.choice, |id| device::probe(&self.environment, id, &options))?;
        self.options = options;
        Ok(self)
    }
}

impl Runtime for OnnxRuntime {
    fn open(
        &self,
        model: &ModelFiles,
        sessions: usize,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Box<dyn Session>>, RunError> {
        let builder = || {
            if !wanted() {
                return Err(ort::Error::new("not wanted any more"));
            }
            model.external.iter().try_fold(self.builder()?, |builder, (name, content)| {
                Ok(builder.with_external_initializer_file_in_memory(name, Arc::clone(content))?)
            })
        };
        let on_cpu = |reason: String| -> ort::Result<Vec<Box<dyn Session>>> {
            let weights = weights::large(model)?;
            let placement = Placement { reason, ..Placement::default() };
            let one = |_| Ok(Box::new(session(builder()?, model, &weights, placement.clone())?) as Box<dyn Session>);
            (0..sessions).map(one).collect()
        };
        let opened = match self.placement.device {
            Device::Cpu => on_cpu(String::new()),
            Device::Cuda(id) => match cuda::open(&builder, &model.graph, id, &self.options, sessions) {
                Err(error) if self.options.choice == DeviceChoice::Auto && wanted() => {
                    tracing::warn!(device = %self.placement.device, %error, "this model runs on the CPU");
                    on_cpu(format!("{} cannot run this model: {error}", self.placement.device))
                }
                opened => opened,
            },
        };
        opened.map_err(|e| RunError(e.to_string()))
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }
}

impl OnnxRuntime {
    /// Of a session with neither threads nor providers of its own.
    pub(super) fn builder(&self) -> ort::Result<SessionBuilder> {
        // N sessions of one thread beat one session of N threads from 32 rows on, and a spinning pool would
        // steal the lanes' own cores.
        Ok(session::Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?)
    }
}

fn session(
    mut builder: SessionBuilder,
    model: &ModelFiles,
    weights: &[Weight],
    placement: Placement,
) -> ort::Result<OnnxSession> {
    for (name, value) in weights {
        builder = builder.with_initializer(name, Arc::clone(value))?;
    }
    let session = builder.commit_from_memory(&model.graph)?;
    let signature = signature(&session);
    Ok(OnnxSession { session, signature, placement, _weights: weights.to_vec() })
}

pub(super) fn signature(session: &session::Session) -> Signature {
    Signature {
        inputs: session.inputs().iter().map(info).collect(),
        outputs: session.outputs().iter().map(info).collect(),
    }
}

fn info(outlet: &Outlet) -> TensorInfo {
    let (dtype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (dtype(*ty), shape.iter().map(|d| usize::try_from(*d).ok()).collect()),
        other => (other.to_string(), Vec::new()),
    };
    TensorInfo { name: outlet.name().to_owned(), dtype, shape }
}

/// Types that tensors may have, and their names as ONNX and numpy spell them.
const TYPES: [(TensorElementType, &str); 14] = [
    (TensorElementType::Bool, "bool"),
    (TensorElementType::Uint8, "uint8"),
    (TensorElementType::Int8, "int8"),
    (TensorElementType::Uint16, "uint16"),
    (TensorElementType::Int16, "int16"),
    (TensorElementType::Uint32, "uint32"),
    (TensorElementType::Int32, "int32"),
    (TensorElementType::Uint64, "uint64"),
    (TensorElementType::Int64, "int64"),
    (TensorElementType::Float32, "float32"),
    (TensorElementType::Float64, "float64"),
    (TensorElementType::Float16, "float16"),
    (TensorElementType::Bfloat16, "bfloat16"),
    (TensorElementType::String, "string"),
];

fn dtype(ty: TensorElementType) -> String {
    TYPES.iter().find(|(t, _)| *t == ty).map_or_else(|| ty.to_string(), |(_, name)| (*name).to_owned())
}

pub(super) fn element_type(dtype: &str) -> Option<TensorElementType> {
    TYPES.iter().find(|(_, name)| *name == dtype).map(|(ty, _)| *ty)
}

struct OnnxSession {
    session: session::Session,
    signature: Signature,
    placement: Placement,
    /// Dropped after the session that uses them.
    _weights: Vec<Weight>,
}

impl OnnxSession {
    fn try_run(&mut self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        let values: Vec<SessionInputValue> = inputs.iter().map(value).collect::<ort::Result<_>>()?;
        // By position: names would be looked up and copied for every run.
        let outputs = self.session.run(values.as_slice())?;
        (0..outputs.len()).map(|i| tensor(&outputs[i])).collect()
    }
}

pub(super) fn value(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape.as_slice();
    each!(
        &tensor.elements,
        values => Ok(TensorRef::from_array_view((shape, values.as_slice()))?.into()),
        // ONNX Runtime's own strings: they are copied.
        text => Ok(OrtTensor::from_string_array((shape, text.as_slice()))?.into())
    )
}

pub(super) fn tensor<T: TensorValueTypeMarker + ?Sized>(value: &Value<T>) -> ort::Result<Tensor> {
    macro_rules! read {
        ($variant:ident) => {{
            let (shape, values) = value.try_extract_tensor()?;
            (shape, Elements::$variant(values.to_vec()))
        }};
    }
    let (shape, elements) = match value.dtype().tensor_type() {
        Some(TensorElementType::Bool) => read!(Bool),
        Some(TensorElementType::Uint8) => read!(U8),
        Some(TensorElementType::Int8) => read!(I8),
        Some(TensorElementType::Uint16) => read!(U16),
        Some(TensorElementType::Int16) => read!(I16),
        Some(TensorElementType::Uint32) => read!(U32),
        Some(TensorElementType::Int32) => read!(I32),
        Some(TensorElementType::Uint64) => read!(U64),
        Some(TensorElementType::Int64) => read!(I64),
        Some(TensorElementType::Float64) => read!(F64),
        Some(TensorElementType::Float16) => read!(F16),
        Some(TensorElementType::Bfloat16) => read!(BF16),
        Some(TensorElementType::String) => {
            let (shape, text) = value.try_extract_strings()?;
            (shape, Elements::Text(text))
        }
        // Anything else is an error that says what it is.
        _ => read!(F32),
    };
    // Negative dimensions are for types, not for values.
    let shape = shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    Ok(Tensor { shape, elements })
}

impl Session for OnnxSession {
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
