//! The tensors of a request, and the candidates that fall out of them.

use super::encoder::{EncodeError, Scope, Violation};

/// The model's input tensors for some rows, row after row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Number of rows.
    pub len: usize,
    /// Table rows, `[len, slots]`; each within the field's range of the spec.
    pub ids: Vec<i64>,
    /// Dense features, `[len, columns]`; finite.
    pub dense: Vec<f32>,
}

/// A request's rows, and the candidates that have none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Encoded {
    /// The candidates that are not rejected, in request order.
    pub rows: Rows,
    /// The candidates that are, in ascending order, each with the first thing wrong with it.
    pub rejected: Vec<Rejected>,
}

/// Why a candidate cannot be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What the request says of it.
    Request,
    /// A stored feature that cannot be had.
    Store,
}

/// One candidate that cannot be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Its index among the candidates.
    pub candidate: usize,
    /// Whose fault it is. What encodes sees requests only; who looked features up knows better.
    pub cause: Cause,
    /// The input that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The tensors while they are being filled.
pub(super) struct Sheet {
    pub(super) rows: Rows,
    pub(super) slots: usize,
    pub(super) columns: usize,
    rejected: Vec<Rejected>,
    violations: Vec<Violation>,
}

impl Sheet {
    pub(super) fn new(len: usize, slots: usize, columns: usize) -> Self {
        let rows = Rows { len, ids: vec![0; len * slots], dense: vec![0.0; len * columns] };
        Self { rows, slots, columns, rejected: Vec::new(), violations: Vec::new() }
    }

    pub(super) fn fail(&mut self, scope: Scope, candidate: usize, input: &str, reason: String) {
        match scope {
            Scope::Context => self.violations.push(Violation { field: scope.path(input), reason }),
            Scope::Candidates => {
                self.rejected.push(Rejected { candidate, cause: Cause::Request, field: input.to_owned(), reason });
            }
        }
    }

    /// Copies a context feature from the first row to the others.
    pub(super) fn spread_ids(&mut self, slots: &[usize]) {
        for row in 1..self.rows.len {
            for &slot in slots {
                self.rows.ids[row * self.slots + slot] = self.rows.ids[slot];
            }
        }
    }

    pub(super) fn spread_dense(&mut self, column: usize) {
        for row in 1..self.rows.len {
            self.rows.dense[row * self.columns + column] = self.rows.dense[column];
        }
    }

    pub(super) fn finish(self) -> Result<Encoded, EncodeError> {
        if !self.violations.is_empty() {
            return Err(EncodeError(self.violations));
        }
        Ok(without_rejected(self.rows, self.rejected))
    }
}

/// Takes the rejected candidates' rows out; of several things wrong with one the first stays.
pub(super) fn without_rejected(mut rows: Rows, mut rejected: Vec<Rejected>) -> Encoded {
    // Stable: the first found stays.
    rejected.sort_by_key(|r| r.candidate);
    rejected.dedup_by_key(|r| r.candidate);
    if !rejected.is_empty() {
        let bad: Vec<usize> = rejected.iter().map(|r| r.candidate).collect();
        let keep = |row: usize| bad.binary_search(&row).is_err();
        rows.ids = keep_rows(&rows.ids, rows.len, keep);
        rows.dense = keep_rows(&rows.dense, rows.len, keep);
        rows.len -= bad.len();
    }
    Encoded { rows, rejected }
}

fn keep_rows<T: Copy>(values: &[T], rows: usize, keep: impl Fn(usize) -> bool) -> Vec<T> {
    let width = values.len() / rows;
    if width == 0 {
        return Vec::new();
    }
    let rows = values.chunks_exact(width).enumerate().filter(|(row, _)| keep(*row));
    rows.flat_map(|(_, row)| row.iter().copied()).collect()
}
