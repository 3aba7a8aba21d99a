//! A plain ONNX model: no contract, no worked examples; what can be known of it is its signature.

use aibuyer_domain::model::{Signature, TensorInfo};

use crate::{
    error::LoadError,
    session::Session,
    tensor::{Elements, Tensor},
};

/// How requests to a plain model may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// The first dimension of every input and output counts rows, and rows do not affect each other.
    Rows,
    /// Each request by itself.
    None,
}

/// Two runs may differ by this share of the value, and as much absolutely: batch kernels add up in another order.
const TOLERANCE: f64 = 1e-3;

/// Refuses a signature with a type that requests cannot carry.
pub(super) fn check(signature: &Signature) -> Result<(), LoadError> {
    let tensors = signature.inputs.iter().chain(&signature.outputs);
    match tensors.into_iter().find(|t| Elements::zeros(&t.dtype, 0).is_none()) {
        None => Ok(()),
        Some(tensor) => Err(LoadError::Unsupported(tensor.to_string())),
    }
}

/// Whether rows of several requests may share a run: the signature must say that the first dimension varies
/// and all others are fixed, and two rows must come out together as they do alone. A model that normalizes
/// over its first dimension has the same signature as one that does not.
pub(super) fn batching(session: &mut dyn Session) -> Batching {
    let signature = session.signature();
    let counts_rows = |t: &TensorInfo| matches!(t.shape.first(), Some(None));
    let fixed_rows = |t: &TensorInfo| counts_rows(t) && t.shape[1..].iter().all(Option::is_some);
    if signature.inputs.is_empty()
        || !signature.inputs.iter().all(fixed_rows)
        || !signature.outputs.iter().all(counts_rows)
    {
        return Batching::None;
    }
    let two: Vec<Tensor> = signature.inputs.iter().filter_map(|t| filled(t, 2)).collect();
    let one = |row: usize| -> Vec<Tensor> {
        let cut = |t: &Tensor| {
            let mut own = t.empty_like(1);
            own.append(t, row..row + 1);
            own
        };
        two.iter().map(cut).collect()
    };
    let (Ok(together), Ok(first), Ok(second)) = (session.run(&two), session.run(&one(0)), session.run(&one(1))) else {
        // Not a model for made-up values: believe its signature.
        return Batching::Rows;
    };
    let alone = first.into_iter().zip(second).map(|(mut first, second)| {
        if first.shape.len() == second.shape.len() && first.shape[1..] == second.shape[1..] {
            first.append(&second, 0..second.rows());
        }
        first
    });
    let same = alone.zip(&together).all(|(alone, together)| alone.shape == together.shape && close(&alone, together));
    if same { Batching::Rows } else { Batching::None }
}

/// Inputs of `rows` rows for a warm-up: zeros, and 1 for whatever else varies.
pub(super) fn zeros(signature: &Signature, rows: usize) -> Vec<Tensor> {
    let zeros = |info: &TensorInfo| {
        let mut shape: Vec<usize> = info.shape.iter().map(|d| d.unwrap_or(1)).collect();
        if let (Some(first), Some(None)) = (shape.first_mut(), info.shape.first()) {
            *first = rows;
        }
        Some(Tensor { elements: Elements::zeros(&info.dtype, shape.iter().product())?, shape })
    };
    signature.inputs.iter().filter_map(zeros).collect()
}

/// Rows of zeros, then of ones.
fn filled(info: &TensorInfo, rows: usize) -> Option<Tensor> {
    let width: usize = info.shape[1..].iter().map(|d| d.unwrap_or(1)).product();
    let mut tensor = Tensor {
        shape: std::iter::once(rows).chain(info.shape[1..].iter().map(|d| d.unwrap_or(1))).collect(),
        elements: Elements::zeros(&info.dtype, rows * width)?,
    };
    match &mut tensor.elements {
        Elements::F32(values) => values[width..].fill(1.0),
        Elements::F64(values) => values[width..].fill(1.0),
        Elements::I64(values) => values[width..].fill(1),
        Elements::I32(values) => values[width..].fill(1),
        _ => {}
    }
    Some(tensor)
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let near = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= TOLERANCE * (1.0 + y.abs());
    match (&a.elements, &b.elements) {
        (Elements::F32(x), Elements::F32(y)) => x.iter().zip(y).all(|(x, y)| near((*x).into(), (*y).into())),
        (Elements::F64(x), Elements::F64(y)) => x.iter().zip(y).all(|(x, y)| near(*x, *y)),
        (x, y) => x == y,
    }
}
