//! Looks at a model file's bytes before ONNX Runtime does.
//!
//! What is looked for is what the runtime would take on trust: where other files are read from, how much memory the
//! header asks for, whose operators run. Files are not opened here: the caller says how long each is.

mod error;

use std::collections::{BTreeMap, BTreeSet};

use prost::{Message, bytes::Bytes};

pub use error::ScanError;

use super::proto::{GraphProto, ModelProto, NodeProto, STRING, SparseTensorProto, TensorProto};

/// Domains whose operators ONNX Runtime brings along.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// What a protobuf can hold.
const MAX_MODEL: u64 = (2 << 30) - 1;
/// Weights may be this many times what the files hold, for tensors may share bytes and sparse ones are unfolded…
const MAX_RATIO: u64 = 4;
/// …or this much in any case.
const SMALL: u64 = 64 << 20;

/// ONNX Runtime's name for the process's own memory, whose addresses are then the offsets.
const MEMORY: &str = "_ORT_MEM_ADDR_";

/// How long each file is that the model refers to; an error where the model must not read it, or cannot.
pub type Lengths<'a> = dyn FnMut(&str) -> Result<u64, String> + 'a;

/// Checks a model file's content; `length` is asked once for each external file.
///
/// # Errors
/// [`ScanError`]: the first thing that is wrong.
pub fn scan(model: &Bytes, length: &mut Lengths) -> Result<(), ScanError> {
    let bytes = model.len() as u64;
    if bytes > MAX_MODEL {
        return Err(ScanError::TooLarge { bytes });
    }
    let ModelProto { graph, functions } = ModelProto::decode(model.clone())?;
    let graph = graph.filter(|graph| !graph.node.is_empty()).ok_or(ScanError::NoGraph)?;
    let own = functions.iter().filter_map(|f| f.domain.as_deref()).collect();
    let mut scan = Scan { own, length, files: BTreeMap::new(), weights: 0 };
    scan.graph(&graph, true)?;
    functions.iter().try_for_each(|function| scan.nodes(&function.node, false))?;
    let held = bytes + scan.files.values().sum::<u64>();
    if scan.weights > held.saturating_mul(MAX_RATIO).max(SMALL) {
        return Err(ScanError::Weights { declared: scan.weights, held });
    }
    Ok(())
}

struct Scan<'a> {
    /// Domains of the model's own functions.
    own: BTreeSet<&'a str>,
    length: &'a mut Lengths<'a>,
    /// Lengths of external files.
    files: BTreeMap<String, u64>,
    /// Bytes of all tensors, unfolded.
    weights: u64,
}

impl Scan<'_> {
    /// `main` is the one graph whose tensors may lie in other files: ONNX Runtime takes them from memory for no
    /// other.
    fn graph(&mut self, graph: &GraphProto, main: bool) -> Result<(), ScanError> {
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor, label(tensor), main))?;
        graph.sparse_initializer.iter().try_for_each(|sparse| self.sparse(sparse))?;
        self.nodes(&graph.node, main)
    }

    fn nodes(&mut self, nodes: &[NodeProto], main: bool) -> Result<(), ScanError> {
        nodes.iter().try_for_each(|node| self.node(node, main))
    }

    fn node(&mut self, node: &NodeProto, main: bool) -> Result<(), ScanError> {
        let (domain, op) = (node.domain.as_deref().unwrap_or(""), node.op_type.as_deref().unwrap_or(""));
        let named = [node.name.as_ref(), node.output.first()].into_iter().flatten().find(|name| !name.is_empty());
        let named = named.map_or_else(|| "without a name".to_owned(), |name| format!("{name:?}"));
        if !DOMAINS.contains(&domain) && !self.own.contains(domain) {
            return Err(ScanError::Domain { node: named, op: op.to_owned(), domain: domain.to_owned() });
        }
        let constant = main && op == "Constant";
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor, format!("the tensor of {op} {named}"), constant)?;
            }
            for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                self.sparse(sparse)?;
            }
            attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph, false))?;
        }
        Ok(())
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> Result<(), ScanError> {
        let parts = sparse.values.iter().chain(&sparse.indices);
        parts.into_iter().try_for_each(|tensor| self.tensor(tensor, label(tensor), false))?;
        let Some(values) = &sparse.values else { return Ok(()) };
        let unfolded = TensorProto { dims: sparse.dims.clone(), data_type: values.data_type, ..TensorProto::default() };
        self.weigh(bytes(&unfolded, &label(values))?);
        Ok(())
    }

    fn weigh(&mut self, bytes: u64) {
        self.weights = self.weights.saturating_add(bytes);
    }

    /// Checks that a tensor's values are there, as many as it says. `external` tells whether they may lie in another
    /// file.
    fn tensor(&mut self, tensor: &TensorProto, at: String, external: bool) -> Result<(), ScanError> {
        let declared = bytes(tensor, &at)?;
        self.weigh(declared);
        if tensor.is_external() {
            return self.external(tensor, at, declared, external);
        }
        if let Some(raw) = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
            return match raw.len() as u64 {
                held if held == declared => Ok(()),
                held => Err(ScanError::Size { at, dims: tensor.dims.clone(), declared, held }),
            };
        }
        let (held, wanted) = (tensor.elements(), typed_elements(tensor, &at)?);
        if held == wanted {
            return Ok(());
        }
        Err(ScanError::Elements { at, dims: tensor.dims.clone(), declared: wanted, held })
    }

    fn external(&mut self, tensor: &TensorProto, at: String, declared: u64, allowed: bool) -> Result<(), ScanError> {
        let location = tensor.external("location").unwrap_or("").to_owned();
        let fail = |reason: String| ScanError::External { at: at.clone(), location: location.clone(), reason };
        let number = |key: &str| match tensor.external(key).unwrap_or("") {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| fail(format!("{key} is {text:?}, which is no length in bytes"))),
        };
        if location.contains(MEMORY) {
            return Err(fail("this name stands for the engine's own memory".to_owned()));
        }
        let (offset, length): (Option<u64>, Option<u64>) = (number("offset")?, number("length")?);
        let held = match self.files.get(&location) {
            Some(held) => *held,
            None => {
                let held = (self.length)(&location).map_err(fail)?;
                self.files.insert(location.clone(), held);
                held
            }
        };
        let offset = offset.unwrap_or(0);
        let length = length.unwrap_or(held.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > held) {
            return Err(fail(format!("{length} bytes from {offset} on are wanted of a file of {held}")));
        }
        if length != declared {
            return Err(ScanError::Size { at, dims: tensor.dims.clone(), declared, held: length });
        }
        if tensor.data_type == Some(STRING) || !allowed {
            let what = "only numbers of the main graph's initializers and Constant nodes are read from other files";
            return Err(fail(what.to_owned()));
        }
        Ok(())
    }
}

fn label(tensor: &TensorProto) -> String {
    match tensor.name.as_deref() {
        None | Some("") => "a tensor without a name".to_owned(),
        Some(name) => format!("tensor {name:?}"),
    }
}

/// Elements by the tensor's shape.
fn elements(tensor: &TensorProto, at: &str) -> Result<u64, ScanError> {
    let mut dims = tensor.dims.iter();
    let product = dims.try_fold(1u64, |product, d| product.checked_mul(u64::try_from(*d).ok()?));
    product.ok_or_else(|| ScanError::Shape { at: at.to_owned(), dims: tensor.dims.clone() })
}

/// Bits of one element; `None` for a type that onnx.proto does not have.
fn bits(data_type: i32) -> Option<u64> {
    Some(match data_type {
        25 | 26 => 2,
        21..=23 => 4,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => return None,
    })
}

/// Bytes by shape and type; 0 for text, whose length no shape tells.
fn bytes(tensor: &TensorProto, at: &str) -> Result<u64, ScanError> {
    let data_type = tensor.data_type.unwrap_or(0);
    let elements = elements(tensor, at)?;
    if data_type == STRING {
        return Ok(0);
    }
    let bits = bits(data_type).ok_or_else(|| ScanError::Type { at: at.to_owned(), data_type })?;
    let bytes = elements.checked_mul(bits).map(|bits| bits.div_ceil(8));
    bytes.ok_or_else(|| ScanError::Shape { at: at.to_owned(), dims: tensor.dims.clone() })
}

/// Numbers that its typed fields must hold: two for each complex one, one for several that share a byte.
fn typed_elements(tensor: &TensorProto, at: &str) -> Result<u64, ScanError> {
    let elements = elements(tensor, at)?;
    Ok(match tensor.data_type.unwrap_or(0) {
        14 | 15 => elements.saturating_mul(2),
        25 | 26 => elements.div_ceil(4),
        21..=23 => elements.div_ceil(2),
        _ => elements,
    })
}

#[cfg(test)]
mod tests;
