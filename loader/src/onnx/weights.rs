//! The large weights of a model, read once and shared by all of its sessions.
//!
//! ONNX Runtime copies a model's initializers into each session: two lanes would hold the embedding table
//! twice. Given as values by name they are used where they lie.

use std::sync::Arc;

use ort::value::{DynValue, Tensor};
use prost::Message;

use super::proto::{FLOAT, ModelProto, TensorProto};
use crate::session::ModelFiles;

/// Weights below this size are left to each session: it may pack them in its own way, which makes the
/// matrices of hidden layers faster by more than their copies cost.
const LARGE: usize = 8 << 20;

/// A weight by the name it has in the graph.
pub(super) type Weight = (String, Arc<DynValue>);

/// The large float32 weights of a model; none where the file cannot be read this way, which is for the session to
/// complain about.
pub(super) fn large(model: &ModelFiles) -> ort::Result<Vec<Weight>> {
    let graph = ModelProto::decode(model.graph.clone()).ok().and_then(|m| m.graph);
    let mut weights = Vec::new();
    for tensor in graph.map_or(vec![], |g| g.initializer) {
        let (Some(name), Some(raw)) = (&tensor.name, content(&tensor, model)) else { continue };
        if raw.len() < LARGE || tensor.data_type != Some(FLOAT) {
            continue;
        }
        // ONNX stores raw data in little-endian order, whatever the machine's.
        let (values, rest) = raw.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if !rest.is_empty() || tensor.dims.iter().product::<i64>() != i64::try_from(values.len()).unwrap_or(-1) {
            continue;
        }
        weights.push((name.clone(), Arc::new(Tensor::from_array((tensor.dims, values))?.into_dyn())));
    }
    Ok(weights)
}

/// A tensor's raw values, here or in another file.
fn content<'a>(tensor: &'a TensorProto, model: &'a ModelFiles) -> Option<&'a [u8]> {
    if !tensor.is_external() {
        return tensor.raw_data.as_deref();
    }
    let number = |key| tensor.external(key).filter(|text| !text.is_empty()).map(str::parse::<usize>);
    let file: &[u8] = model.external.get(tensor.external("location")?)?;
    let from = file.get(number("offset").unwrap_or(Ok(0)).ok()?..)?;
    from.get(..number("length").unwrap_or(Ok(from.len())).ok()?)
}
