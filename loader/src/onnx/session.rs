//! Sessions of ONNX Runtime on the CPU: one thread each, no spinning, no thread pool of their own.

use std::{path::Path, sync::Arc};

use aibuyer_domain::model::{Signature, TensorInfo};
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{self, builder::GraphOptimizationLevel},
    value::{Outlet, TensorRef, ValueType},
};

use prost::bytes::Bytes;

use super::weights::{self, Weight};
use crate::session::{Inputs, Outputs, RunError, Runtime, Session};

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
        ValueType::Tensor { ty, shape, .. } => {
            // Spelled as ONNX and numpy do: int64, float32.
            let dtype = ty.to_string();
            let dtype = match dtype.as_str() {
                "f32" => "float32".to_owned(),
                "f64" => "float64".to_owned(),
                "i32" => "int32".to_owned(),
                "i64" => "int64".to_owned(),
                _ => dtype,
            };
            (dtype, shape.iter().map(|d| usize::try_from(*d).ok()).collect())
        }
        other => (other.to_string(), Vec::new()),
    };
    TensorInfo { name: outlet.name().to_owned(), dtype, shape }
}

struct OnnxSession {
    session: session::Session,
    signature: Signature,
    /// Dropped after the session that uses them.
    _weights: Vec<Weight>,
}

impl OnnxSession {
    fn try_run(&mut self, inputs: Inputs) -> ort::Result<Outputs> {
        let ids = TensorRef::from_array_view((width(inputs.rows, inputs.ids), inputs.ids))?;
        let outputs = if inputs.dense.is_empty() {
            self.session.run(ort::inputs!["ids" => ids])?
        } else {
            let dense = TensorRef::from_array_view((width(inputs.rows, inputs.dense), inputs.dense))?;
            self.session.run(ort::inputs!["ids" => ids, "dense" => dense])?
        };
        let column = |name: &str| -> ort::Result<Option<Vec<f32>>> {
            let tensor = outputs.get(name).map(|v| v.try_extract_tensor::<f32>()).transpose()?;
            Ok(tensor.map(|(_, values)| values.to_vec()))
        };
        Ok(Outputs { logits: column("logit")?.unwrap_or_default(), variances: column("logit_variance")? })
    }
}

fn width<T>(rows: usize, values: &[T]) -> [usize; 2] {
    [rows, values.len() / rows.max(1)]
}

impl Session for OnnxSession {
    fn signature(&self) -> Signature {
        self.signature.clone()
    }

    fn run(&mut self, inputs: Inputs) -> Result<Outputs, RunError> {
        self.try_run(inputs).map_err(|e| RunError(e.to_string()))
    }
}
