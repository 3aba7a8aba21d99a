//! What is wrong with a model file, and what to do.

/// A model file that ONNX Runtime must not be given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScanError {
    /// Longer than its format allows.
    #[error("{bytes} bytes, and a protobuf holds less than 2 GiB; save the weights as external data")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// Cut off, damaged, or something else.
    #[error("not a whole ONNX model: {0}; truncated, or not ONNX? Export it again")]
    Protobuf(#[from] prost::DecodeError),
    /// Nothing to run.
    #[error("no graph in it: empty, truncated, or not ONNX? Export it again")]
    NoGraph,
    /// An operator of nobody known.
    #[error(
        "node {node} is {domain}::{op}, of a domain that this engine has no operators of; export with operators of \
         ai.onnx, ai.onnx.ml or com.microsoft, or with the function's body in the model"
    )]
    Domain {
        /// The node's name, or its first output's.
        node: String,
        /// Its operator.
        op: String,
        /// The operator's domain.
        domain: String,
    },
    /// A shape that no memory holds.
    #[error("{at} has the shape {dims:?}: negative, or beyond 64 bits; the file is damaged, export it again")]
    Shape {
        /// Which tensor.
        at: String,
        /// Its shape.
        dims: Vec<i64>,
    },
    /// A type of a newer ONNX, or nonsense.
    #[error("{at} has the element type {data_type}, which ONNX does not have; the file is damaged, export it again")]
    Type {
        /// Which tensor.
        at: String,
        /// Its type's number.
        data_type: i32,
    },
    /// Values do not fill the shape, counted in bytes.
    #[error("{at} of shape {dims:?} needs {declared} bytes and has {held}; truncated, or damaged? Export it again")]
    Size {
        /// Which tensor.
        at: String,
        /// Its shape.
        dims: Vec<i64>,
        /// Bytes by shape and type.
        declared: u64,
        /// Bytes that are there.
        held: u64,
    },
    /// Values do not fill the shape, counted one by one.
    #[error("{at} of shape {dims:?} needs {declared} numbers and has {held}; truncated, or damaged? Export it again")]
    Elements {
        /// Which tensor.
        at: String,
        /// Its shape.
        dims: Vec<i64>,
        /// Numbers by shape and type.
        declared: u64,
        /// Numbers that are there.
        held: u64,
    },
    /// Values in another file that must not be read, or do not fit.
    #[error("{at} is stored in {location:?}: {reason}; export the model again, with all of its files in one folder")]
    External {
        /// Which tensor.
        at: String,
        /// The other file, as the model has it.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// More memory than the files account for.
    #[error(
        "its tensors need {declared} bytes of memory, its files hold {held}: they share bytes or are sparse; store \
         each by itself and dense"
    )]
    Weights {
        /// Bytes of all tensors.
        declared: u64,
        /// Bytes of all files.
        held: u64,
    },
}
