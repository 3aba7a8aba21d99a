//! A named column of raw feature values, as a request carries it.

use super::strings::{StringArray, StringSlice};

/// One feature's values, one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Input name of the feature.
    pub name: &'a str,
    /// The values.
    pub values: Values<'a>,
    /// Rows without a value; what stands there in `values` is ignored.
    pub missing: &'a [u32],
}

/// The values of a column.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Text; empty is missing.
    Strings(StringSlice<'a>),
    /// Whole numbers.
    Int64s(&'a [i64]),
    /// Numbers; must be finite.
    Doubles(&'a [f64]),
    /// Truth values.
    Bools(&'a [bool]),
    /// Lists of text: row `i` owns the next `lengths[i]` values.
    StringLists {
        /// All lists, one after the other.
        values: StringSlice<'a>,
        /// Each row's length.
        lengths: &'a [u32],
    },
}

impl Values<'_> {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Strings(v) => v.len(),
            Self::Int64s(v) => v.len(),
            Self::Doubles(v) => v.len(),
            Self::Bools(v) => v.len(),
            Self::StringLists { lengths, .. } => lengths.len(),
        }
    }

    /// The type's name as in the API.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Strings(_) => "strings",
            Self::Int64s(_) => "int64s",
            Self::Doubles(_) => "doubles",
            Self::Bools(_) => "bools",
            Self::StringLists { .. } => "string_lists",
        }
    }
}

/// Which rows of a column are missing.
pub(super) struct Gaps(Vec<bool>);

impl Gaps {
    /// Of `rows` rows, `missing`.
    pub(super) fn new(missing: &[u32], rows: usize) -> Self {
        let mut gaps = vec![false; if missing.is_empty() { 0 } else { rows }];
        missing.iter().for_each(|row| gaps[*row as usize] = true);
        Self(gaps)
    }

    pub(super) fn contains(&self, row: usize) -> bool {
        self.0.get(row).copied().unwrap_or(false)
    }
}

/// A one-row column that owns its value: what a JSON example turns into.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnedColumn {
    /// One text.
    String(StringArray),
    /// One whole number.
    Int64([i64; 1]),
    /// One number.
    Double([f64; 1]),
    /// One truth value.
    Bool([bool; 1]),
    /// One list of text.
    StringList(StringArray, [u32; 1]),
}

impl OwnedColumn {
    /// The column that a JSON value stands for; `None` for `null`, a missing value.
    ///
    /// # Errors
    /// A description of a value that no feature takes: an object, a list of anything but strings, or a
    /// number beyond 64 bits.
    pub fn from_json(value: &serde_json::Value) -> Result<Option<Self>, String> {
        use serde_json::Value;
        Ok(Some(match value {
            Value::Null => return Ok(None),
            Value::Bool(b) => Self::Bool([*b]),
            Value::String(s) => Self::String([s].into_iter().collect()),
            Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(i), _) => Self::Int64([i]),
                (None, Some(x)) if x.is_finite() => Self::Double([x]),
                _ => return Err(format!("the number {n} does not fit in 64 bits")),
            },
            Value::Array(items) => {
                let list: Option<StringArray> = items.iter().map(Value::as_str).collect();
                let list = list.ok_or("a list must hold only strings")?;
                let length = u32::try_from(items.len()).map_err(|_| "the list is too long")?;
                Self::StringList(list, [length])
            }
            Value::Object(_) => return Err("an object is not a feature value".to_owned()),
        }))
    }

    /// The column, borrowed.
    #[must_use]
    pub fn column<'a>(&'a self, name: &'a str) -> Column<'a> {
        let values = match self {
            Self::String(v) => Values::Strings(v.as_slice()),
            Self::Int64(v) => Values::Int64s(v),
            Self::Double(v) => Values::Doubles(v),
            Self::Bool(v) => Values::Bools(v),
            Self::StringList(values, lengths) => Values::StringLists { values: values.as_slice(), lengths },
        };
        Column { name, values, missing: &[] }
    }
}
