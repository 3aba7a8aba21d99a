//! Sessions of ONNX Runtime on the CPU: one thread each, no spinning, no thread pool of their own.

use std::{path::Path, sync::Arc};

use aibuyer_domain::model::{Signature, TensorInfo};
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{self, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType},
};
use prost::bytes::Bytes;

use super::weights::{self, Weight};
use crate::{
    session::{RunError, Runtime, Session},
    tensor::{Elements, Tensor, each},
};

/// ONNX Runtime, loaded into this process.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    environment: Environment,
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
        Ok(Self { environment })
    }
}

impl Runtime for OnnxRuntime {
    fn open(&self, model: &Bytes, sessions: usize) -> Result<Vec<Box<dyn Session>>, RunError> {
        let open = || -> ort::Result<Vec<Box<dyn Session>>> {
            let weights = weights::large(model)?;
            (0..sessions).map(|_| Ok(Box::new(self.session(model, &weights)?) as Box<dyn Session>)).collect()
        };
        open().map_err(|e| RunError(e.to_string()))
    }
}

impl OnnxRuntime {
    fn session(&self, model: &Bytes, weights: &[Weight]) -> ort::Result<OnnxSession> {
        // N sessions of one thread beat one session of N threads from 32 rows on, and a spinning pool would
        // steal the lanes' own cores.
        let mut builder = session::Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?;
        for (name, value) in weights {
            builder = builder.with_initializer(name, Arc::clone(value))?;
        }
        let session = builder.commit_from_memory(model)?;
        let signature = Signature {
            inputs: session.inputs().iter().map(info).collect(),
            outputs: session.outputs().iter().map(info).collect(),
        };
        Ok(OnnxSession { session, signature, _weights: weights.to_vec() })
    }
}

fn info(outlet: &Outlet) -> TensorInfo {
    let (dtype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (dtype(*ty), shape.iter().map(|d| usize::try_from(*d).ok()).collect()),
        other => (other.to_string(), Vec::new()),
    };
    TensorInfo { name: outlet.name().to_owned(), dtype, shape }
}

/// A type's name as ONNX and numpy spell it.
fn dtype(ty: TensorElementType) -> String {
    let name = match ty {
        TensorElementType::Bool => "bool",
        TensorElementType::Uint8 => "uint8",
        TensorElementType::Int8 => "int8",
        TensorElementType::Uint16 => "uint16",
        TensorElementType::Int16 => "int16",
        TensorElementType::Uint32 => "uint32",
        TensorElementType::Int32 => "int32",
        TensorElementType::Uint64 => "uint64",
        TensorElementType::Int64 => "int64",
        TensorElementType::Float32 => "float32",
        TensorElementType::Float64 => "float64",
        other => return other.to_string(),
    };
    name.to_owned()
}

struct OnnxSession {
    session: session::Session,
    signature: Signature,
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

fn value(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape.as_slice();
    each!(&tensor.elements, values => Ok(TensorRef::from_array_view((shape, values.as_slice()))?.into()))
}

fn tensor(value: &DynValue) -> ort::Result<Tensor> {
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

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.try_run(inputs).map_err(|e| RunError(e.to_string()))
    }
}
