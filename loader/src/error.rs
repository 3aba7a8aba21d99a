//! Why a version could not be loaded.

use std::time::Duration;

use aibuyer_domain::{
    ctr::{SpecError, VocabularyError, golden::GoldenError},
    forecast::window,
    model::{FetchError, Version},
};

use crate::{batch::BatcherError, onnx::scan::ScanError, session::RunError};

/// A version that cannot serve: which check failed, on which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its files could not be brought here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file that cannot be read, or is not there.
    #[error("{file} cannot be read: {source}; is the artifact complete?")]
    Read {
        /// The file, inside the artifact.
        file: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// `MLmodel` does not describe an ONNX model under this contract.
    #[error("MLmodel: {0}")]
    MlModel(String),
    /// `feature_spec.json` contradicts the contract.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// `forecast_spec.json` contradicts the contract.
    #[error(transparent)]
    ForecastSpec(#[from] window::SpecError),
    /// A file whose content is not what the spec says.
    #[error(
        "{file} has SHA-256 {actual}, {spec} says {expected}: truncated, swapped or edited; export the model again"
    )]
    Digest {
        /// Name of the spec.
        spec: &'static str,
        /// The file, inside the artifact.
        file: String,
        /// As the spec has it.
        expected: String,
        /// As it is.
        actual: String,
    },
    /// A file that is not UTF-8 where text is needed, or not JSON of the expected shape.
    #[error("{file}: {reason}")]
    Content {
        /// The file, inside the artifact.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A vocabulary that does not fit its field.
    #[error("{file} {source}")]
    Vocabulary {
        /// The file, inside the artifact.
        file: String,
        /// What is wrong.
        source: VocabularyError,
    },
    /// A model file that the runtime must not be given.
    #[error("{file}: {source}")]
    Scan {
        /// The model file.
        file: String,
        /// What is wrong.
        source: ScanError,
    },
    /// The runtime cannot open the model.
    #[error("{file} cannot be opened by ONNX Runtime: {source}")]
    Open {
        /// The model file.
        file: String,
        /// The runtime's word.
        source: RunError,
    },
    /// The model's inputs or outputs are not what the spec declares.
    #[error("the model's signature differs from {spec}: {reason}; were the two exported together?")]
    Signature {
        /// Name of the spec.
        spec: &'static str,
        /// What differs.
        reason: String,
    },
    /// The model's inputs or outputs are not what `MLmodel` declares.
    #[error("the model's signature differs from MLmodel: {0}; were the two logged together?")]
    Declared(String),
    /// An element type that requests cannot carry.
    #[error(
        "the model has {0}: only booleans, integers, floats of 16 to 64 bits and strings are supported; cast \
         it in the graph"
    )]
    Unsupported(String),
    /// A worked example is not reproduced.
    #[error("{source}; trainer and engine disagree, so no prediction of this version can be trusted")]
    Golden {
        /// Which example, and how.
        source: GoldenError,
    },
    /// The example that was logged with the model does not work.
    #[error("{file} {reason}; log the model again, with an example that it was tried on or with none")]
    Example {
        /// The file, inside the artifact.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The model fails on inputs that the spec allows.
    #[error("the model fails on {what}: {reason}")]
    WarmUp {
        /// The inputs.
        what: String,
        /// How it fails.
        reason: String,
    },
    /// What callers send today would be refused, or what they read would be missing.
    #[error(
        "not compatible with version {serving}, which serves: {reason}; promote it under an alias of its own, or set \
         loading.signature = \"any\" once no caller needs that"
    )]
    Incompatible {
        /// The version that serves.
        serving: Version,
        /// What differs.
        reason: String,
    },
    /// It would make every caller wait.
    #[error(
        "a batch of {rows} takes {took:.1?}, {factor:.1} times the {serving_took:.1?} of version {serving}, which \
         serves; loading.max_slowdown allows {allowed}: make the model smaller, or raise that (0 allows any)"
    )]
    Slower {
        /// The version that serves.
        serving: Version,
        /// Rows of the batch.
        rows: usize,
        /// What the new version takes.
        took: Duration,
        /// What the version that serves took when it was loaded.
        serving_took: Duration,
        /// One by the other.
        factor: f64,
        /// As configured.
        allowed: f64,
    },
    /// The lanes did not start.
    #[error(transparent)]
    Lanes(#[from] BatcherError),
    /// The load could not begin.
    #[error("the operating system gives no thread for the load: {0}; raise the limit of threads or of memory")]
    Thread(std::io::Error),
    /// Nobody waits for the version any more.
    #[error("the registry wanted another version before this one was ready")]
    Superseded,
    /// The load itself broke.
    #[error("the load panicked: this is a bug in the engine, please report it with the version's files")]
    Panicked,
}

impl From<GoldenError> for LoadError {
    fn from(source: GoldenError) -> Self {
        Self::Golden { source }
    }
}

impl LoadError {
    /// The check that failed, as a metric label.
    #[must_use]
    pub fn check(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Read { .. } => "files",
            Self::MlModel(_) => "mlmodel",
            Self::Spec(_) => "feature_spec",
            Self::ForecastSpec(_) => "forecast_spec",
            Self::Digest { .. } => "digest",
            Self::Content { .. } | Self::Vocabulary { .. } => "content",
            Self::Scan { .. } => "onnx_scan",
            Self::Open { .. } => "open",
            Self::Signature { .. } | Self::Declared(_) | Self::Unsupported(_) => "signature",
            Self::Golden { .. } | Self::Example { .. } => "golden",
            Self::WarmUp { .. } => "warm_up",
            Self::Incompatible { .. } => "compatibility",
            Self::Slower { .. } => "latency",
            Self::Lanes(_) | Self::Thread(_) | Self::Panicked => "engine",
            Self::Superseded => "superseded",
        }
    }
}
