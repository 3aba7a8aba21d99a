//! A field's known values and their rows.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::hash::ROW_FIRST;

/// Known values of one field: line `i` (from 0) of its file is row `2 + i` of the field.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    // A fixed seed: all keys are the model's own, and requests add none.
    rows: HashMap<Box<[u8]>, u32, FixedState>,
}

/// A vocabulary file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// A line that is not a JSON string.
    #[error("line {line} is not a JSON string: {source}")]
    NotAString {
        /// Line number, from 1.
        line: usize,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A value twice: its row would be ambiguous.
    #[error("line {line} repeats {value:?}")]
    Repeated {
        /// Line number, from 1.
        line: usize,
        /// The value.
        value: String,
    },
    /// More or fewer values than the spec has rows for.
    #[error("has {found} values, the spec's {rows} rows need {}", rows.saturating_sub(ROW_FIRST))]
    WrongCount {
        /// Values in the file.
        found: usize,
        /// Rows of the field.
        rows: u32,
    },
}

impl Vocabulary {
    /// Reads a vocabulary file, one JSON string a line, for a field of `rows` table rows.
    ///
    /// # Errors
    /// [`VocabularyError`] names the line.
    pub fn parse(text: &str, rows: u32) -> Result<Self, VocabularyError> {
        let mut known = HashMap::default();
        for (i, line) in text.lines().enumerate() {
            let value: String =
                serde_json::from_str(line).map_err(|source| VocabularyError::NotAString { line: i + 1, source })?;
            let row = u32::try_from(i).unwrap_or(u32::MAX).saturating_add(ROW_FIRST);
            if known.insert(value.as_bytes().into(), row).is_some() {
                return Err(VocabularyError::Repeated { line: i + 1, value });
            }
        }
        if known.len() + ROW_FIRST as usize != rows as usize {
            return Err(VocabularyError::WrongCount { found: known.len(), rows });
        }
        Ok(Self { rows: known })
    }

    /// The value's row, counted from the field's first row; `None` if unknown.
    #[must_use]
    pub fn row(&self, value: &[u8]) -> Option<u32> {
        self.rows.get(value).copied()
    }
}
