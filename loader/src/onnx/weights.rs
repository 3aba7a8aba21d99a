//! The large weights of a model, read once and shared by all of its sessions.
//!
//! ONNX Runtime copies a model's initializers into each session: two lanes would hold the embedding table
//! twice. Given as values by name they are used where they lie.

use std::sync::Arc;

use ort::value::{DynValue, Tensor};
use prost::{Message, bytes::Bytes};

/// Weights below this size are left to each session: it may pack them in its own way, which makes the
/// matrices of hidden layers faster by more than their copies cost.
const LARGE: usize = 8 << 20;

/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;

/// The parts of onnx.proto that matter here; unknown fields are skipped.
#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    raw_data: Option<Bytes>,
}

/// A weight by the name it has in the graph.
pub(super) type Weight = (String, Arc<DynValue>);

/// The large float32 weights of a model file; none where the file cannot be read this way, which is for the
/// session to complain about.
pub(super) fn large(model: &Bytes) -> ort::Result<Vec<Weight>> {
    let initializers = ModelProto::decode(model.clone()).ok().and_then(|m| m.graph).map_or(vec![], |g| g.initializer);
    let mut weights = Vec::new();
    for tensor in initializers {
        let (Some(name), Some(raw)) = (tensor.name, tensor.raw_data) else { continue };
        if raw.len() < LARGE || tensor.data_type != Some(FLOAT) {
            continue;
        }
        // ONNX stores raw data in little-endian order, whatever the machine's.
        let (values, rest) = raw.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if !rest.is_empty() || tensor.dims.iter().product::<i64>() != i64::try_from(values.len()).unwrap_or(-1) {
            continue;
        }
        weights.push((name, Arc::new(Tensor::from_array((tensor.dims, values))?.into_dyn())));
    }
    Ok(weights)
}
