//! Encodes a categorical feature: text into table rows.

use std::fmt::Write as _;

use super::{
    column::{Gaps, Values},
    encoder::Scratch,
    field::{MissingPolicy, UnknownPolicy},
    hash::{FieldHash, Hashing, Normalizer, ROW_MISSING, ROW_UNKNOWN},
    vocabulary::Vocabulary,
};

#[derive(Debug)]
pub(super) struct Categorical {
    pub(super) lookup: Lookup,
    pub(super) normalize: Normalizer,
    pub(super) row_offset: u32,
    pub(super) slots: Box<[usize]>,
    pub(super) multi: bool,
    pub(super) missing: MissingPolicy,
    pub(super) unknown: UnknownPolicy,
}

#[derive(Debug)]
pub(super) enum Lookup {
    Vocabulary(Vocabulary),
    Hash(FieldHash),
}

impl Categorical {
    /// Fills the field's slots of some rows, `width` ids each. `values` have an entry a row; in `gaps` it says nothing. `fail`
    /// is told which row is bad, and why.
    pub(super) fn encode(
        &self,
        values: Option<Values>,
        gaps: &Gaps,
        ids: &mut [i64],
        width: usize,
        scratch: &mut Scratch,
        fail: impl FnMut(usize, String),
    ) {
        let Scratch { lowered, message, digits, .. } = scratch;
        let mut finder = match &self.lookup {
            Lookup::Hash(hash) => Finder::Hash(hash.begin(message)),
            Lookup::Vocabulary(vocabulary) => Finder::Vocabulary(vocabulary, self.unknown),
        };
        let normalize = match values {
            Some(Values::Strings(all) | Values::StringLists { values: all, .. }) => self.normalize.within(all.text()),
            _ => self.normalize,
        };
        let mut put = |text: &str, ids: &mut [i64], slot: usize| {
            let value = normalize.apply(text.as_bytes(), lowered);
            if value.is_empty() {
                return Ok(false);
            }
            ids[slot] = i64::from(self.row_offset + finder.row(value, text)?);
            Ok(true)
        };
        let (rows, first) = (ids.chunks_exact_mut(width), self.slots[0]);
        match values {
            None => self.each(rows.map(|ids| (ids, ())), gaps, fail, |(), _| Ok(false)),
            Some(Values::Strings(v)) => self.each(rows.zip(v.iter()), gaps, fail, |text, ids| put(text, ids, first)),
            Some(Values::Bools(v)) => {
                self.each(rows.zip(v), gaps, fail, |x, ids| put(if *x { "true" } else { "false" }, ids, first));
            }
            Some(Values::Int64s(v)) => self.each(rows.zip(v), gaps, fail, |n, ids| {
                digits.clear();
                let _ = write!(digits, "{n}");
                put(digits, ids, first)
            }),
            Some(Values::StringLists { values, lengths }) => {
                let lists = lengths.iter().scan(0, |start, length| {
                    let from = *start;
                    *start += *length as usize;
                    Some(values.range(from..*start))
                });
                self.each(rows.zip(lists), gaps, fail, |list, ids| {
                    let mut some = false;
                    for (text, slot) in list.iter().zip(&self.slots) {
                        some |= put(text, ids, *slot)?;
                    }
                    Ok(some)
                });
            }
            // `Field::takes` refused it.
            Some(Values::Doubles(v)) => {
                self.each(rows.zip(v), gaps, fail, |x, _| {
                    Err(format!("{x} is a number with a fraction, not a category"))
                });
            }
        }
    }

    /// Row after row: `fill` says whether the row has a value.
    fn each<'a, T>(
        &self,
        rows: impl Iterator<Item = (&'a mut [i64], T)>,
        gaps: &Gaps,
        mut fail: impl FnMut(usize, String),
        mut fill: impl FnMut(T, &mut [i64]) -> Result<bool, String>,
    ) {
        let missing = i64::from(self.row_offset + ROW_MISSING);
        for (row, (ids, value)) in rows.enumerate() {
            for &slot in &self.slots {
                ids[slot] = missing;
            }
            match if gaps.contains(row) { Ok(false) } else { fill(value, ids) } {
                Ok(false) if self.missing == MissingPolicy::Reject => {
                    fail(row, "has no value, and the model requires one".to_owned());
                }
                Ok(_) => {}
                Err(reason) => fail(row, reason),
            }
        }
    }
}

/// Where a field's values have their rows from.
enum Finder<'a> {
    Vocabulary(&'a Vocabulary, UnknownPolicy),
    Hash(Hashing<'a>),
}

impl Finder<'_> {
    fn row(&mut self, value: &[u8], text: &str) -> Result<u32, String> {
        match self {
            Self::Hash(hashing) => Ok(hashing.row(value)),
            Self::Vocabulary(vocabulary, unknown) => match (vocabulary.row(value), unknown) {
                (Some(row), _) => Ok(row),
                (None, UnknownPolicy::Row1) => Ok(ROW_UNKNOWN),
                (None, UnknownPolicy::Row0) => Ok(ROW_MISSING),
                (None, UnknownPolicy::Reject) => Err(format!("{text:?} is not in the model's vocabulary")),
            },
        }
    }
}
