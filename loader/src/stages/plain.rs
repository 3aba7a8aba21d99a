//! A plain ONNX model: no contract, no worked examples; what can be known of it is its signature.

use aibuyer_domain::model::{Signature, TensorInfo};
use half::{bf16, f16};

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
/// The same for floats of 16 bits: some units in the last place of eleven and of eight bits.
const TOLERANCE_F16: f64 = 4e-3;
const TOLERANCE_BF16: f64 = 3e-2;

/// Bytes of one input that a warm-up takes, at most.
const ROOM: usize = 1 << 30;
/// Rows of an example that are run one by one, at most.
const MOST_TRIED: usize = 16;

/// Refuses a signature with a type that requests cannot carry.
pub(super) fn check(signature: &Signature) -> Result<(), LoadError> {
    let tensors = signature.inputs.iter().chain(&signature.outputs);
    match tensors.into_iter().find(|t| Elements::zeros(&t.dtype, 0).is_none()) {
        None => Ok(()),
        Some(tensor) => Err(LoadError::Unsupported(tensor.to_string())),
    }
}

/// Refuses inputs whose warm-up would not fit into memory: a shape in a model file is only a claim.
pub(super) fn check_room(signature: &Signature, rows: usize) -> Result<(), LoadError> {
    let bytes = |t: &TensorInfo| {
        let dims = t.shape.iter().skip(1).map(|d| d.unwrap_or(1));
        let elements = dims.fold(t.shape.first().copied().flatten().unwrap_or(rows), usize::saturating_mul);
        elements.saturating_mul(Elements::zeros(&t.dtype, 1).map_or(1, |e| e.width()))
    };
    match signature.inputs.iter().find(|t| bytes(t) > ROOM) {
        None => Ok(()),
        Some(input) => {
            let reason = format!(
                "the input {input} takes {} bytes, {ROOM} at most; lower batching.max_batch_rows if \
                the shape is right",
                bytes(input)
            );
            Err(LoadError::WarmUp { what: format!("a batch of {rows}"), reason })
        }
    }
}

/// Whether rows of several requests may share a run: the signature must say that the first dimension varies
/// and all others are fixed, and rows must come out together as they do alone, made up or of the example. A model that
/// normalizes over its first dimension has the same signature as one that does not.
pub(super) fn batching(session: &mut dyn Session, example: Option<&[Tensor]>) -> Result<Batching, LoadError> {
    let signature = session.signature();
    let counts_rows = |t: &TensorInfo| matches!(t.shape.first(), Some(None));
    let fixed_rows = |t: &TensorInfo| counts_rows(t) && t.shape[1..].iter().all(Option::is_some);
    if signature.inputs.is_empty()
        || !signature.inputs.iter().all(fixed_rows)
        || !signature.outputs.iter().all(counts_rows)
    {
        return Ok(Batching::None);
    }
    check_room(&signature, 2)?;
    let made_up: Vec<Tensor> = signature.inputs.iter().filter_map(|t| filled(t, 2)).collect();
    // A model need not take made-up values: where it fails on them, its signature is believed.
    let apart = together_as_alone(session, &made_up) == Some(false)
        || example.and_then(batch_of).is_some_and(|batch| together_as_alone(session, &batch) == Some(false));
    Ok(if apart { Batching::None } else { Batching::Rows })
}

/// Rows of an example, two at least; `None` where its inputs do not agree in how many there are.
fn batch_of(example: &[Tensor]) -> Option<Vec<Tensor>> {
    let rows = example.first()?.rows();
    if rows == 0 || example.iter().any(|t| t.rows() != rows) {
        return None;
    }
    let batch = |t: &Tensor| {
        let mut batch = t.empty_like(2);
        (0..rows.clamp(2, MOST_TRIED)).for_each(|row| batch.append(t, row % rows..row % rows + 1));
        batch
    };
    Some(example.iter().map(batch).collect())
}

/// Whether rows give in one run what each gives in its own; `None` where a run fails.
fn together_as_alone(session: &mut dyn Session, inputs: &[Tensor]) -> Option<bool> {
    let together = session.run(inputs).ok()?;
    let mut alone: Option<Vec<Tensor>> = None;
    for row in 0..inputs.first()?.rows() {
        let cut = |t: &Tensor| {
            let mut own = t.empty_like(1);
            own.append(t, row..row + 1);
            own
        };
        let outputs = session.run(&inputs.iter().map(cut).collect::<Vec<_>>()).ok()?;
        let Some(before) = &mut alone else {
            alone = Some(outputs);
            continue;
        };
        for (before, output) in before.iter_mut().zip(&outputs) {
            if before.shape.is_empty() || before.shape.get(1..) != output.shape.get(1..) {
                return Some(false);
            }
            before.append(output, 0..output.rows());
        }
    }
    Some(alone?.iter().zip(&together).all(|(alone, together)| alone.shape == together.shape && close(alone, together)))
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
        Elements::F16(values) => values[width..].fill(f16::ONE),
        Elements::BF16(values) => values[width..].fill(bf16::ONE),
        Elements::Text(values) => values[width..].fill("1".to_owned()),
        _ => {}
    }
    Some(tensor)
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    fn near<T: Copy + Into<f64>>(x: &[T], y: &[T], tolerance: f64) -> bool {
        let near =
            |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * (1.0 + y.abs());
        x.iter().zip(y).all(|(x, y)| near((*x).into(), (*y).into()))
    }
    match (&a.elements, &b.elements) {
        (Elements::F32(x), Elements::F32(y)) => near(x, y, TOLERANCE),
        (Elements::F64(x), Elements::F64(y)) => near(x, y, TOLERANCE),
        (Elements::F16(x), Elements::F16(y)) => near(x, y, TOLERANCE_F16),
        (Elements::BF16(x), Elements::BF16(y)) => near(x, y, TOLERANCE_BF16),
        (x, y) => x == y,
    }
}
