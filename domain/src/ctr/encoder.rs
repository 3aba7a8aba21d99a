//! Turns a request's named columns into the model's input tensors.
//!
//! Built once a model version from its feature spec and vocabularies; used from many threads. A request
//! goes column by column: each field finds its column by name, then fills its slots of `ids` or its column
//! of `dense` for every candidate. What is wrong with the request as a whole, or with its context, fails it;
//! what is wrong with one candidate's value rejects that candidate alone.

use std::{collections::HashMap, fmt::Write as _};

use super::{
    column::{Column, Values},
    field::{FieldSpec, MissingPolicy, UnknownPolicy},
    hash::{FieldHash, Normalize, ROW_FIRST, ROW_MISSING, ROW_UNKNOWN, normalize},
    spec::{Encoding, FeatureSpec, SpecError},
    transform::{self, Transform, ValueError},
    vocabulary::Vocabulary,
};

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

/// One candidate that cannot be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Its index among the candidates.
    pub candidate: usize,
    /// The input that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, as a path into the request.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// A request that cannot be encoded, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", summary(.0))]
pub struct EncodeError(pub Vec<Violation>);

fn summary(violations: &[Violation]) -> String {
    let one = |v: &Violation| format!("{}: {}", v.field, v.reason);
    match violations {
        [] => "the request is invalid".to_owned(),
        [v] => one(v),
        [v, rest @ ..] => format!("{} (and {} more)", one(v), rest.len()),
    }
}

/// Turns named columns into [`Rows`].
#[derive(Debug)]
pub struct Encoder {
    fields: Vec<Field>,
    by_input: HashMap<Box<str>, usize>,
    slots: usize,
    columns: usize,
}

#[derive(Debug)]
struct Field {
    input: Box<str>,
    accepts: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Categorical(Categorical),
    Dense { column: usize, number: Number },
    Bucket { slot: usize, row_offset: u32, boundaries: Box<[f64]>, number: Number },
}

#[derive(Debug)]
struct Categorical {
    lookup: Lookup,
    normalize: Box<[Normalize]>,
    row_offset: u32,
    slots: Box<[usize]>,
    multi: bool,
    missing: MissingPolicy,
    unknown: UnknownPolicy,
}

#[derive(Debug)]
enum Lookup {
    Vocabulary(Vocabulary),
    Hash(FieldHash),
}

#[derive(Debug)]
struct Number {
    default: Option<f64>,
    missing: MissingPolicy,
    transforms: Box<[Transform]>,
}

/// Which candidates a column speaks for.
#[derive(Clone, Copy)]
enum Scope {
    /// One row, for all of them.
    Context,
    /// A row each.
    Candidates,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Candidates => "candidates",
        }
    }
}

/// Buffers reused from value to value.
#[derive(Default)]
struct Scratch {
    lowered: Vec<u8>,
    message: Vec<u8>,
    digits: String,
}

impl Encoder {
    /// An encoder for `spec`; `vocabulary` gives the content of a vocabulary file by name and rows.
    ///
    /// # Errors
    /// Whatever `vocabulary` returns, and [`SpecError`] where a field contradicts the contract.
    pub fn new<E: From<SpecError>>(
        spec: &FeatureSpec,
        mut vocabulary: impl FnMut(&str, u32) -> Result<Vocabulary, E>,
    ) -> Result<Self, E> {
        let mut fields = Vec::with_capacity(spec.fields.len());
        for field in &spec.fields {
            let kind = match field {
                FieldSpec::Categorical {
                    name,
                    encoding,
                    normalize,
                    row_offset,
                    rows,
                    slots,
                    multi,
                    missing,
                    oov,
                    ..
                } => Kind::Categorical(Categorical {
                    lookup: match encoding {
                        Encoding::Vocabulary { file } => Lookup::Vocabulary(vocabulary(file, *rows)?),
                        Encoding::Hash { buckets, .. } => Lookup::Hash(FieldHash::new(name, *buckets)),
                    },
                    normalize: normalize.as_slice().into(),
                    row_offset: *row_offset,
                    slots: slots.as_slice().into(),
                    multi: multi.is_some(),
                    missing: *missing,
                    unknown: *oov,
                }),
                FieldSpec::Numeric { name, column, default, transforms, row_offset, slots, missing, .. } => {
                    let number =
                        Number { default: *default, missing: *missing, transforms: transforms.as_slice().into() };
                    let boundaries = transforms.last().and_then(Transform::boundaries);
                    match (column, boundaries, row_offset, slots.first()) {
                        (Some(column), ..) => Kind::Dense { column: *column, number },
                        (None, Some(boundaries), Some(row_offset), Some(slot)) => {
                            Kind::Bucket { slot: *slot, row_offset: *row_offset, boundaries: boundaries.into(), number }
                        }
                        _ => return Err(SpecError::at(format!("fields[{name:?}]"), "has no target").into()),
                    }
                }
            };
            fields.push(Field { input: field.input().into(), accepts: field.accepts(), kind });
        }
        let by_input = fields.iter().enumerate().map(|(i, f)| (f.input.clone(), i)).collect();
        Ok(Self { fields, by_input, slots: spec.slots(), columns: spec.columns() })
    }

    /// Columns of `ids`.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Columns of `dense`.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Encodes `candidates` rows: `context` columns have one row, which holds for all of them, `columns`
    /// have `candidates` rows.
    ///
    /// # Errors
    /// [`EncodeError`] when the request as a whole is wrong: an unknown or repeated column, a wrong type or
    /// row count, or a bad value in the context.
    pub fn encode(&self, context: &[Column], columns: &[Column], candidates: usize) -> Result<Encoded, EncodeError> {
        let by_field = self.assign(context, columns, candidates)?;
        let mut sheet = Sheet {
            rows: Rows {
                len: candidates,
                ids: vec![0; candidates * self.slots],
                dense: vec![0.0; candidates * self.columns],
            },
            slots: self.slots,
            columns: self.columns,
            rejected: Vec::new(),
            violations: Vec::new(),
        };
        let mut scratch = Scratch::default();
        for (field, column) in self.fields.iter().zip(by_field) {
            field.encode(column, &mut sheet, &mut scratch);
        }
        sheet.finish()
    }

    /// The column of each field, if any; checks all that does not depend on values.
    fn assign<'a>(
        &self,
        context: &'a [Column<'a>],
        columns: &'a [Column<'a>],
        candidates: usize,
    ) -> Result<Vec<Option<(Scope, &'a Column<'a>)>>, EncodeError> {
        let mut by_field = vec![None; self.fields.len()];
        let mut violations = Vec::new();
        let context = context.iter().map(|c| (Scope::Context, 1, c));
        let columns = columns.iter().map(|c| (Scope::Candidates, candidates, c));
        for (scope, rows, column) in context.chain(columns) {
            let mut fail = |reason| violations.push(Violation { field: path(scope, column.name), reason });
            let Some(&index) = self.by_input.get(column.name) else {
                fail(self.unknown_feature(column.name));
                continue;
            };
            if by_field[index].is_some() {
                fail("stands twice in the request; send each feature once".to_owned());
            }
            by_field[index] = Some((scope, column));
            let field = &self.fields[index];
            let found = column.values.rows();
            if !field.takes(&column.values) {
                fail(format!("has {}, this feature takes {}", column.values.type_name(), field.accepts));
            } else if found != rows {
                fail(format!("has {found} rows, needs {rows}"));
            } else if let Some(row) = column.missing.iter().find(|row| **row as usize >= rows) {
                fail(format!("names row {row} as missing, but has {rows} rows"));
            } else if let Values::StringLists { values, lengths } = column.values {
                let sum: u64 = lengths.iter().map(|n| u64::from(*n)).sum();
                if sum != values.len() as u64 {
                    fail(format!("has {} values, its lengths add up to {sum}", values.len()));
                }
            }
        }
        if violations.is_empty() { Ok(by_field) } else { Err(EncodeError(violations)) }
    }

    fn unknown_feature(&self, name: &str) -> String {
        let mut known: Vec<&str> = self.fields.iter().map(|f| &*f.input).collect();
        known.sort_unstable();
        const SHOWN: usize = 20;
        let more = if known.len() > SHOWN { ", ..." } else { "" };
        known.truncate(SHOWN);
        format!("the model has no feature {name:?}; it has {}{more}", known.join(", "))
    }
}

fn path(scope: Scope, name: &str) -> String {
    format!("{}[{name:?}]", scope.name())
}

/// The tensors while they are being filled.
struct Sheet {
    rows: Rows,
    slots: usize,
    columns: usize,
    rejected: Vec<Rejected>,
    violations: Vec<Violation>,
}

impl Sheet {
    fn fail(&mut self, scope: Scope, candidate: usize, input: &str, reason: String) {
        match scope {
            Scope::Context => self.violations.push(Violation { field: path(scope, input), reason }),
            Scope::Candidates => self.rejected.push(Rejected { candidate, field: input.to_owned(), reason }),
        }
    }

    /// Copies a context feature from the first row to the others.
    fn spread_ids(&mut self, slots: &[usize]) {
        for row in 1..self.rows.len {
            for &slot in slots {
                self.rows.ids[row * self.slots + slot] = self.rows.ids[slot];
            }
        }
    }

    fn spread_dense(&mut self, column: usize) {
        for row in 1..self.rows.len {
            self.rows.dense[row * self.columns + column] = self.rows.dense[column];
        }
    }

    fn finish(mut self) -> Result<Encoded, EncodeError> {
        if !self.violations.is_empty() {
            return Err(EncodeError(self.violations));
        }
        // Stable: of several things wrong with a candidate the first found stays.
        self.rejected.sort_by_key(|r| r.candidate);
        self.rejected.dedup_by_key(|r| r.candidate);
        if !self.rejected.is_empty() {
            let bad: Vec<usize> = self.rejected.iter().map(|r| r.candidate).collect();
            let keep = |row: usize| bad.binary_search(&row).is_err();
            self.rows.ids = keep_rows(&self.rows.ids, self.slots, keep);
            self.rows.dense = keep_rows(&self.rows.dense, self.columns, keep);
            self.rows.len -= bad.len();
        }
        Ok(Encoded { rows: self.rows, rejected: self.rejected })
    }
}

fn keep_rows<T: Copy>(values: &[T], width: usize, keep: impl Fn(usize) -> bool) -> Vec<T> {
    if width == 0 {
        return Vec::new();
    }
    let rows = values.chunks_exact(width).enumerate().filter(|(row, _)| keep(*row));
    rows.flat_map(|(_, row)| row.iter().copied()).collect()
}

impl Field {
    fn takes(&self, values: &Values) -> bool {
        match (&self.kind, values) {
            (Kind::Categorical(c), Values::StringLists { .. }) => c.multi,
            (Kind::Categorical(_), Values::Strings(_)) => true,
            (Kind::Categorical(c), Values::Int64s(_) | Values::Bools(_)) => !c.multi,
            (Kind::Categorical(_), Values::Doubles(_)) => false,
            (Kind::Dense { .. } | Kind::Bucket { .. }, values) => {
                matches!(values, Values::Doubles(_) | Values::Int64s(_) | Values::Bools(_))
            }
        }
    }

    /// Fills the field's part of every row. `column` has been checked by [`Encoder::assign`].
    fn encode(&self, column: Option<(Scope, &Column)>, sheet: &mut Sheet, scratch: &mut Scratch) {
        // An absent column is missing everywhere; one row stands for all. Where it may not be missing,
        // every candidate is told so.
        let (scope, column) = match column {
            Some((scope, column)) => (scope, Some(column)),
            None => (Scope::Context, None),
        };
        let rows = match scope {
            Scope::Context => sheet.rows.len.min(1),
            Scope::Candidates => sheet.rows.len,
        };
        let mut gaps = vec![false; if column.is_some_and(|c| !c.missing.is_empty()) { rows } else { 0 }];
        for &row in column.map_or(&[][..], |c| c.missing) {
            gaps[row as usize] = true;
        }
        let mut list_start = 0;
        for row in 0..rows {
            let values = column.map(|c| c.values);
            let here = list_start;
            if let Some(Values::StringLists { lengths, .. }) = values {
                list_start += lengths[row] as usize;
            }
            let values = values.filter(|_| !gaps.get(row).copied().unwrap_or(false));
            let outcome = match &self.kind {
                Kind::Categorical(c) => {
                    let ids = &mut sheet.rows.ids[row * sheet.slots..(row + 1) * sheet.slots];
                    c.encode(values, row, here, ids, scratch)
                }
                Kind::Dense { column, number } => {
                    number.dense(values, row).map(|x| sheet.rows.dense[row * sheet.columns + column] = x)
                }
                Kind::Bucket { slot, row_offset, boundaries, number } => number
                    .bucket(values, row, boundaries)
                    .map(|x| sheet.rows.ids[row * sheet.slots + slot] = i64::from(row_offset + x)),
            };
            if let Err(reason) = outcome {
                sheet.fail(scope, row, &self.input, reason);
            }
        }
        if matches!(scope, Scope::Context) {
            match &self.kind {
                Kind::Categorical(c) => sheet.spread_ids(&c.slots),
                Kind::Dense { column, .. } => sheet.spread_dense(*column),
                Kind::Bucket { slot, .. } => sheet.spread_ids(&[*slot]),
            }
        }
    }
}

impl Categorical {
    /// Fills the field's slots of one row; `list` is where the row's list starts.
    fn encode(
        &self,
        values: Option<Values>,
        row: usize,
        list: usize,
        ids: &mut [i64],
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        for &slot in &self.slots {
            ids[slot] = i64::from(self.row_offset + ROW_MISSING);
        }
        let Scratch { lowered, message, digits } = scratch;
        let mut some = false;
        let mut put = |i: usize, text: &str| -> Result<(), String> {
            let value = normalize(text.as_bytes(), &self.normalize, lowered);
            if !value.is_empty() {
                some = true;
                ids[self.slots[i]] = i64::from(self.row_offset + self.row(value, text, message)?);
            }
            Ok(())
        };
        match values {
            None => {}
            Some(Values::Strings(v)) => put(0, &v[row])?,
            Some(Values::Bools(v)) => put(0, if v[row] { "true" } else { "false" })?,
            Some(Values::Int64s(v)) => {
                digits.clear();
                let _ = write!(digits, "{}", v[row]);
                put(0, digits)?;
            }
            Some(Values::StringLists { values, lengths }) => {
                let all = &values[list..list + lengths[row] as usize];
                for (i, text) in all.iter().take(self.slots.len()).enumerate() {
                    put(i, text)?;
                }
            }
            // `Field::takes` refused it.
            Some(Values::Doubles(_)) => return Err("numbers with a fraction are not categories".to_owned()),
        }
        if !some && self.missing == MissingPolicy::Reject {
            return Err("has no value, and the model requires one".to_owned());
        }
        Ok(())
    }

    fn row(&self, value: &[u8], text: &str, message: &mut Vec<u8>) -> Result<u32, String> {
        match &self.lookup {
            Lookup::Hash(hash) => Ok(hash.row(value, message)),
            Lookup::Vocabulary(vocabulary) => match (vocabulary.row(value), self.unknown) {
                (Some(row), _) => Ok(row),
                (None, UnknownPolicy::Row1) => Ok(ROW_UNKNOWN),
                (None, UnknownPolicy::Row0) => Ok(ROW_MISSING),
                (None, UnknownPolicy::Reject) => Err(format!("{text:?} is not in the model's vocabulary")),
            },
        }
    }
}

impl Number {
    fn dense(&self, values: Option<Values>, row: usize) -> Result<f32, String> {
        let raw = self.raw(values, row)?.ok_or("has no value, and the model has no default for it")?;
        transform::apply(&self.transforms, raw)
            .and_then(|x| transform::to_f32(x, raw))
            .map_err(|e: ValueError| e.to_string())
    }

    fn bucket(&self, values: Option<Values>, row: usize, boundaries: &[f64]) -> Result<u32, String> {
        let Some(raw) = self.raw(values, row)? else {
            return Ok(ROW_MISSING);
        };
        let x = transform::apply(&self.transforms, raw).map_err(|e| e.to_string())?;
        let bucket = boundaries.partition_point(|b| *b <= x);
        Ok(ROW_FIRST + u32::try_from(bucket).unwrap_or(u32::MAX))
    }

    /// The value before any transform; the default where it is missing, `None` where there is none.
    #[allow(clippy::cast_precision_loss)] // counts beyond 2^53 lose nothing that float32 would keep
    fn raw(&self, values: Option<Values>, row: usize) -> Result<Option<f64>, String> {
        let raw = match values {
            Some(Values::Doubles(v)) => Some(v[row]),
            Some(Values::Int64s(v)) => Some(v[row] as f64),
            Some(Values::Bools(v)) => Some(f64::from(u8::from(v[row]))),
            _ => self.default,
        };
        match raw {
            None if self.missing == MissingPolicy::Reject => Err("has no value, and the model requires one".to_owned()),
            raw => Ok(raw),
        }
    }
}
