//! Rows that the caller encoded: bytes into tensors, and every value checked.

use super::{
    encoder::{EncodeError, Violation},
    sheet::{Cause, Encoded, Rejected, Rows, without_rejected},
    spec::FeatureSpec,
};

/// A tensor in two parts: columns that hold for every candidate, and all others.
#[derive(Debug, Clone, Copy)]
pub struct SplitTensor<'a> {
    /// Columns of the context, ascending.
    pub context_columns: &'a [u32],
    /// Their values, 4 bytes each, little-endian.
    pub context: &'a [u8],
    /// Values of the other columns, in ascending order, row after row.
    pub candidates: &'a [u8],
}

/// Puts a caller's tensors together for the models of one feature spec.
#[derive(Debug)]
pub struct Assembler {
    /// Least and greatest id of each slot.
    bounds: Vec<(u32, u32)>,
    /// Input name of each slot's and each column's feature, for errors.
    slot_inputs: Vec<String>,
    column_inputs: Vec<String>,
}

impl Assembler {
    /// An assembler for `spec`.
    #[must_use]
    pub fn new(spec: &FeatureSpec) -> Self {
        let bounds = spec.id_bounds().into_iter();
        let narrow = |id: i64| u32::try_from(id).unwrap_or(u32::MAX);
        Self {
            bounds: bounds.map(|(low, high)| (narrow(low), narrow(high))).collect(),
            slot_inputs: spec.slot_inputs(),
            column_inputs: spec.column_inputs(),
        }
    }

    /// The rows of `candidates` candidates: ids as uint32, dense as float32.
    ///
    /// # Errors
    /// [`EncodeError`] when columns or lengths are wrong, or a value of the context.
    pub fn assemble(&self, ids: SplitTensor, dense: SplitTensor, candidates: usize) -> Result<Encoded, EncodeError> {
        let mut rows = Rows { len: candidates, ids: Vec::new(), dense: Vec::new() };
        let ids_plan = Plan::new("ids", "slots", ids, self.bounds.len(), candidates)?;
        let dense_plan = Plan::new("dense", "columns", dense, self.column_inputs.len(), candidates)?;
        ids_plan.fill(ids, candidates, &mut rows.ids, |bytes| i64::from(u32::from_le_bytes(bytes)));
        dense_plan.fill(dense, candidates, &mut rows.dense, f32::from_le_bytes);

        let mut violations = Vec::new();
        let mut rejected = Vec::new();
        for Fault { rejected: fault, tensor, column } in self.faults(&rows) {
            let plan = if tensor == Tensor::Ids { &ids_plan } else { &dense_plan };
            if !plan.from_context[column] {
                rejected.push(fault);
            } else if fault.candidate == 0 {
                // The same in every row: told once.
                let Rejected { field, reason, .. } = fault;
                violations.push(Violation { field: format!("context[{field:?}]"), reason });
            }
        }
        if !violations.is_empty() {
            return Err(EncodeError(violations));
        }
        Ok(without_rejected(rows, rejected))
    }

    /// The first value that the model must not see; `None` if all are good.
    #[must_use]
    pub fn check(&self, rows: &Rows) -> Option<Rejected> {
        self.faults(rows).next().map(|fault| fault.rejected)
    }

    /// Every value outside its bounds: ONNX Runtime takes negative ids without a word, and one bad id fails
    /// everybody's batch.
    fn faults<'a>(&'a self, rows: &'a Rows) -> impl Iterator<Item = Fault> + 'a {
        // A row is looked through only where it is bad: the pass before takes far fewer instructions.
        let ids = rows.ids.chunks_exact(self.bounds.len().max(1)).enumerate();
        let ids = ids.filter(|(_, ids)| !within(ids, &self.bounds)).flat_map(move |(row, ids)| {
            let slots = ids.iter().zip(&self.bounds).enumerate();
            let bad = slots.filter(|(_, (id, (low, high)))| **id < i64::from(*low) || **id > i64::from(*high));
            bad.map(move |(column, (id, (low, high)))| {
                let reason = format!("row {id} is not within the feature's rows, {low} to {high}");
                let rejected =
                    Rejected { candidate: row, cause: Cause::Request, field: self.slot_inputs[column].clone(), reason };
                Fault { rejected, tensor: Tensor::Ids, column }
            })
        });
        let dense = rows.dense.chunks_exact(self.column_inputs.len().max(1)).enumerate();
        let dense = dense.filter(|(_, values)| !finite(values)).flat_map(move |(row, values)| {
            let bad = values.iter().enumerate().filter(|(_, x)| !x.is_finite());
            bad.map(move |(column, x)| {
                let reason = format!("{x} is not a finite number");
                let rejected = Rejected {
                    candidate: row,
                    cause: Cause::Request,
                    field: self.column_inputs[column].clone(),
                    reason,
                };
                Fault { rejected, tensor: Tensor::Dense, column }
            })
        });
        ids.chain(dense)
    }
}

/// Whether every id lies within its slot's bounds: no difference has a sign. Without a branch for each.
fn within(ids: &[i64], bounds: &[(u32, u32)]) -> bool {
    let signs = |id: i64, low: u32, high: u32| id.wrapping_sub(low.into()) | i64::from(high).wrapping_sub(id);
    ids.iter().zip(bounds).fold(0, |all, (id, (low, high))| all | signs(*id, *low, *high)) >= 0
}

/// Whether all are finite, likewise.
fn finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, x| all & x.is_finite())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tensor {
    Ids,
    Dense,
}

/// A value that the model must not see.
struct Fault {
    rejected: Rejected,
    tensor: Tensor,
    column: usize,
}

/// Where each column of a tensor comes from.
struct Plan {
    from_context: Vec<bool>,
}

impl Plan {
    fn new(name: &str, unit: &str, split: SplitTensor, width: usize, rows: usize) -> Result<Self, EncodeError> {
        let fail = |field: String, reason: String| Err(EncodeError(vec![Violation { field, reason }]));
        let mut from_context = vec![false; width];
        let mut last = None;
        for &column in split.context_columns {
            let Some(taken) = from_context.get_mut(column as usize) else {
                return fail(
                    format!("context_{unit}"),
                    format!("names {column}, the model has {width} {unit} of {name}"),
                );
            };
            if last.is_some_and(|last| last >= column) {
                return fail(format!("context_{unit}"), "must be ascending".to_owned());
            }
            *taken = true;
            last = Some(column);
        }
        let shared = split.context_columns.len();
        let parts = [("context", split.context, shared), ("candidate", split.candidates, rows * (width - shared))];
        for (part, bytes, values) in parts {
            if bytes.len() != values * 4 {
                let reason = format!("has {} bytes, needs {}: 4 for each of {values} values", bytes.len(), values * 4);
                return fail(format!("{part}_{name}"), reason);
            }
        }
        Ok(Self { from_context })
    }

    /// Appends `rows` rows to `out`. Lengths have been checked.
    fn fill<T: Copy>(&self, split: SplitTensor, rows: usize, out: &mut Vec<T>, read: impl Fn([u8; 4]) -> T) {
        let (context, _) = split.context.as_chunks::<4>();
        let (candidates, _) = split.candidates.as_chunks::<4>();
        let mut own = candidates.iter().map(|bytes| read(*bytes));
        if context.is_empty() {
            out.extend(own);
            return;
        }
        let shared: Vec<T> = context.iter().map(|bytes| read(*bytes)).collect();
        out.reserve(rows * self.from_context.len());
        for _ in 0..rows {
            let mut shared = shared.iter().copied();
            out.extend(self.from_context.iter().filter_map(|from| if *from { shared.next() } else { own.next() }));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn assembler() -> Assembler {
        Assembler {
            bounds: vec![(0, 9), (10, 19), (20, 29)],
            slot_inputs: ["a", "b", "c"].map(str::to_owned).to_vec(),
            column_inputs: ["x", "y"].map(str::to_owned).to_vec(),
        }
    }

    fn le<const N: usize>(values: [u32; N]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn floats<const N: usize>(values: [f32; N]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn split<'a>(context_columns: &'a [u32], context: &'a [u8], candidates: &'a [u8]) -> SplitTensor<'a> {
        SplitTensor { context_columns, context, candidates }
    }

    #[test]
    fn the_context_takes_its_columns_in_every_row() {
        let (context, candidates) = (le([15]), le([1, 21, 2, 22]));
        let (x, y) = (floats([0.5]), floats([1.0, 2.0]));
        let got = assembler().assemble(split(&[1], &context, &candidates), split(&[0], &x, &y), 2).unwrap();
        assert_eq!(got.rows.ids, [1, 15, 21, 2, 15, 22]);
        assert_eq!(got.rows.dense, [0.5, 1.0, 0.5, 2.0]);
        let everything = (le([1, 15, 21]), floats([0.5, 1.0]));
        let ids = split(&[0, 1, 2], &everything.0, &[]);
        let got = assembler().assemble(ids, split(&[0, 1], &everything.1, &[]), 3).unwrap();
        assert_eq!((got.rows.len, got.rows.ids.len()), (3, 9));
        let (ids, dense) = (le([1, 15, 21]), floats([0.5, 1.0]));
        let got = assembler().assemble(split(&[], &[], &ids), split(&[], &[], &dense), 1).unwrap();
        assert_eq!((got.rows.ids, got.rows.dense), (vec![1, 15, 21], vec![0.5, 1.0]));
    }

    #[test]
    fn a_bad_value_is_its_candidates_error_and_in_the_context_the_requests() {
        let ids = le([1, 15, 21, 1, 9, 21, 1, 15, u32::MAX]);
        let dense = floats([0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0]);
        let got = assembler().assemble(split(&[], &[], &ids), split(&[], &[], &dense), 3).unwrap();
        assert_eq!(got.rows.ids, [1, 15, 21]);
        let fields: Vec<_> = got.rejected.iter().map(|r| (r.candidate, r.field.as_str())).collect();
        assert_eq!(fields, [(1, "b"), (2, "c")]);
        assert!(got.rejected[0].reason.contains("row 9 is not within the feature's rows, 10 to 19"));

        let (context, candidates, dense) = (le([20]), le([1, 21, 2, 22]), floats([0.0; 4]));
        let ids = split(&[1], &context, &candidates);
        let error = assembler().assemble(ids, split(&[], &[], &dense), 2).unwrap_err();
        assert_eq!(error.0.len(), 1);
        assert_eq!(error.0[0].field, "context[\"b\"]");
    }

    #[test]
    fn ids_at_and_beyond_their_bounds_are_told_apart() {
        let bounds = [(0, 0), (10, 19), (5, u32::MAX)];
        let far = [i64::MIN, i64::MIN + 5, i64::MIN + 10, -1, 1 << 32, i64::MAX];
        for slot in 0..bounds.len() {
            let (low, high) = (i64::from(bounds[slot].0), i64::from(bounds[slot].1));
            for id in [low - 1, low, low + 1, high - 1, high, high + 1].into_iter().chain(far) {
                let mut ids = bounds.map(|(low, _)| i64::from(low));
                ids[slot] = id;
                assert_eq!(within(&ids, &bounds), (low..=high).contains(&id), "{id} in slot {slot}");
            }
        }
    }

    #[test]
    fn wrong_columns_and_lengths_are_named() {
        let (ids, dense) = (le([1, 15, 21]), floats([0.5, 1.0]));
        let good = split(&[], &[], &dense);
        let cases = [
            (split(&[3], &[], &ids), good, "context_slots: names 3, the model has 3 slots of ids"),
            (split(&[1, 1], &[], &ids), good, "context_slots: must be ascending"),
            (split(&[1], &[], &ids), good, "context_ids: has 0 bytes, needs 4: 4 for each of 1 values"),
            (split(&[], &[], &ids[1..]), good, "candidate_ids: has 11 bytes, needs 12: 4 for each of 3 values"),
            (
                split(&[], &[], &ids),
                split(&[], &[], &[]),
                "candidate_dense: has 0 bytes, needs 8: 4 for each of 2 values",
            ),
        ];
        for (ids, dense, expect) in cases {
            let error = assembler().assemble(ids, dense, 1).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
    }
}
