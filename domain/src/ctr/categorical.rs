//! Encodes a categorical feature: text into table rows.

use std::fmt::Write as _;

use super::{
    column::Values,
    field::{MissingPolicy, UnknownPolicy},
    hash::{FieldHash, Normalize, ROW_MISSING, ROW_UNKNOWN, normalize},
    vocabulary::Vocabulary,
};

#[derive(Debug)]
pub(super) struct Categorical {
    pub(super) lookup: Lookup,
    pub(super) normalize: Box<[Normalize]>,
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

/// Buffers reused from value to value.
#[derive(Default)]
pub(super) struct Scratch {
    lowered: Vec<u8>,
    message: Vec<u8>,
    digits: String,
}

impl Categorical {
    /// Fills the field's slots of one row; `list` is where the row's list starts.
    pub(super) fn encode(
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
