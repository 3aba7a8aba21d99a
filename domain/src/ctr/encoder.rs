//! Turns a request's named columns into the model's input tensors.
//!
//! Built once a model version from its feature spec and vocabularies; used from many threads. A request
//! goes column by column: each field finds its column by name, then fills its slots of `ids` or its column
//! of `dense` for every candidate. What is wrong with the request as a whole, or with its context, fails it;
//! what is wrong with one candidate's value rejects that candidate alone.

use std::{collections::HashMap, mem};

use foldhash::fast::FixedState;

use super::{
    categorical::{Categorical, Lookup},
    column::{Column, Gaps, Values},
    field::{Encoding, FieldSpec},
    hash::{FieldHash, Normalizer},
    number::Number,
    sheet::{Encoded, Rows, Sheet},
    spec::{FeatureSpec, SpecError},
    transform::Transform,
    vocabulary::Vocabulary,
};

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

/// Turns named columns into [`Rows`](super::Rows).
#[derive(Debug)]
pub struct Encoder {
    fields: Vec<Field>,
    // A fixed seed: all keys are the model's own, and requests add none.
    by_input: HashMap<Box<str>, usize, FixedState>,
    /// Inputs that name entities and are no features themselves.
    keys: Vec<Box<str>>,
    slots: usize,
    columns: usize,
}

/// Buffers reused from field to field.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) lowered: Vec<u8>,
    pub(super) message: Vec<u8>,
    pub(super) digits: String,
    pub(super) numbers: Vec<f64>,
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

/// Which candidates a column speaks for.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// One row, for all of them.
    Context,
    /// A row each.
    Candidates,
}

impl Scope {
    /// A column's place in the request.
    pub(super) fn path(self, column: &str) -> String {
        let group = match self {
            Self::Context => "context",
            Self::Candidates => "candidates",
        };
        format!("{group}[{column:?}]")
    }
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
                    normalize: Normalizer::new(normalize),
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
        let by_input: HashMap<_, _, _> = fields.iter().enumerate().map(|(i, f)| (f.input.clone(), i)).collect();
        let keys = spec.entity_keys().into_iter().filter(|key| !by_input.contains_key(*key)).map(Into::into).collect();
        Ok(Self { fields, by_input, keys, slots: spec.slots(), columns: spec.columns() })
    }

    /// Encodes `candidates` rows: `context` columns have one row, which holds for all of them, `columns`
    /// have `candidates` rows. Columns of entity keys are checked like others and become nothing.
    ///
    /// # Errors
    /// [`EncodeError`] when the request as a whole is wrong: an unknown or repeated column, a wrong type or
    /// row count, or a bad value in the context.
    pub fn encode(&self, context: &[Column], columns: &[Column], candidates: usize) -> Result<Encoded, EncodeError> {
        let by_field = self.assign(context, columns, candidates)?;
        let mut sheet = Sheet::new(candidates, self.slots, self.columns);
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
        let mut keys = vec![false; self.keys.len()];
        let mut violations = Vec::new();
        let context = context.iter().map(|c| (Scope::Context, 1, c));
        let columns = columns.iter().map(|c| (Scope::Candidates, candidates, c));
        for (scope, rows, column) in context.chain(columns) {
            let mut fail = |reason| violations.push(Violation { field: scope.path(column.name), reason });
            let (takes, accepts, again) = match self.by_input.get(column.name) {
                Some(&index) => {
                    let field = &self.fields[index];
                    let again = by_field[index].replace((scope, column)).is_some();
                    (field.takes(&column.values), field.accepts, again)
                }
                None => {
                    let Some(index) = self.keys.iter().position(|key| **key == *column.name) else {
                        fail(self.unknown_feature(column.name));
                        continue;
                    };
                    let takes = matches!(column.values, Values::Strings(_) | Values::Int64s(_));
                    (takes, "strings or int64s", mem::replace(&mut keys[index], true))
                }
            };
            if again {
                fail("stands twice in the request; send each feature once".to_owned());
            }
            let found = column.values.rows();
            if !takes {
                fail(format!("has {}, this feature takes {accepts}", column.values.type_name()));
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
        let mut known: Vec<&str> =
            self.fields.iter().map(|f| &*f.input).chain(self.keys.iter().map(|k| &**k)).collect();
        known.sort_unstable();
        const SHOWN: usize = 20;
        let more = if known.len() > SHOWN { ", ..." } else { "" };
        known.truncate(SHOWN);
        format!("the model has no feature {name:?}; it has {}{more}", known.join(", "))
    }
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
        let gaps = Gaps::new(column.map_or(&[], |c| c.missing), rows);
        let values = column.map(|c| c.values);
        let mut failures = Vec::new();
        let mut fail = |row, reason| failures.push((row, reason));
        let Rows { ids, dense, .. } = &mut sheet.rows;
        match &self.kind {
            Kind::Categorical(c) => {
                c.encode(values, &gaps, &mut ids[..rows * sheet.slots], sheet.slots, scratch, fail);
            }
            Kind::Dense { column, number } => {
                let cells = dense.chunks_exact_mut(sheet.columns).map(|row| &mut row[*column]).take(rows);
                if !number.fill(values, &gaps, cells, &mut scratch.numbers) {
                    number.each(values, &gaps, rows, |row, raw| match number.dense(raw) {
                        Ok(x) => dense[row * sheet.columns + column] = x,
                        Err(reason) => fail(row, reason),
                    });
                }
            }
            Kind::Bucket { slot, row_offset, boundaries, number } => {
                number.each(values, &gaps, rows, |row, raw| match number.bucket(raw, boundaries) {
                    Ok(x) => ids[row * sheet.slots + slot] = i64::from(row_offset + x),
                    Err(reason) => fail(row, reason),
                });
            }
        }
        for (row, reason) in failures {
            sheet.fail(scope, row, &self.input, reason);
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
