//! From an answer to rows: its columns and types first, then its values.

use std::{
    collections::HashSet,
    mem,
    time::{Duration, SystemTime},
};

use clickhouse_types::{Column, parse_rbwnat_columns_header};

use super::{
    schema,
    wire::{Input, Wire},
};
use crate::{
    store::{Rows, StoreError, bytes},
    view::{EntityKey, FeatureColumn, FeatureKind, FeatureRow, FeatureValue, FeatureView},
};

/// How the values of a row are read: its time, then each feature.
struct Wires {
    computed_at: Wire,
    features: Vec<(Wire, bool, FeatureKind)>,
}

/// An answer as it comes in.
pub(super) struct Decoder<'v> {
    view: &'v FeatureView,
    most: u64,
    wires: Option<Wires>,
    /// Bytes that are no whole row yet.
    rest: Vec<u8>,
    rows: Rows,
    bytes: u64,
    /// Keys that came more than once.
    twice: HashSet<EntityKey>,
}

impl<'v> Decoder<'v> {
    /// For an answer whose rows may take `most` bytes.
    pub(super) fn new(view: &'v FeatureView, most: u64) -> Self {
        let (rest, rows, twice) = (Vec::new(), Rows::default(), HashSet::new());
        Self { view, most, wires: None, rest, rows, bytes: 0, twice }
    }

    /// Takes the next part of the answer, which may end anywhere.
    ///
    /// # Errors
    /// When a column is not what the view says, or the rows become too many.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<(), StoreError> {
        let mut all = mem::take(&mut self.rest);
        all.extend_from_slice(part);
        let mut input = Input(&all);
        if self.wires.is_none() {
            let mut behind = input.0;
            // Not all there yet, or never.
            if let Ok(columns) = parse_rbwnat_columns_header(&mut behind) {
                self.wires = Some(wires(self.view, &columns).map_err(|reason| schema(self.view, reason))?);
                input.0 = behind;
            }
        }
        if let Some(wires) = &self.wires {
            loop {
                let before = input.0;
                let Some((key, row)) = row(&mut input, wires) else {
                    input.0 = before;
                    break;
                };
                let key = EntityKey::new(key).map_err(|e| schema(self.view, e.to_string()))?;
                self.bytes += bytes(&key, &row);
                if self.rows.insert(key.clone(), row).is_some() {
                    self.twice.insert(key);
                }
            }
        }
        let left = input.0.len();
        all.drain(..all.len() - left);
        self.rest = all;
        if self.bytes + left as u64 > self.most {
            return Err(StoreError::TooLarge { view: self.view.name, table: self.view.table, most: self.most });
        }
        Ok(())
    }

    /// The rows of the whole answer.
    ///
    /// # Errors
    /// When it ended early.
    pub(super) fn end(mut self) -> Result<Rows, StoreError> {
        let view = self.view;
        if self.wires.is_none() {
            let why = parse_rbwnat_columns_header(&self.rest[..]).err().map_or_else(String::new, |e| format!(": {e}"));
            return Err(schema(view, format!("the answer has no columns{why}")));
        }
        if !self.rest.is_empty() {
            return Err(schema(view, "the answer ends in the middle of a row".to_owned()));
        }
        // Either row may be the wrong one. The others are not held up by it.
        for key in &self.twice {
            self.rows.remove(key);
            let key = key.as_str();
            tracing::warn!(view = view.name, table = view.table, key, "more than one row: taken as absent");
        }
        Ok(self.rows)
    }
}

/// How rows are read, if the columns are those of the view.
fn wires(view: &FeatureView, columns: &[Column]) -> Result<Wires, String> {
    let [key, computed_at, features @ ..] = columns else {
        return Err(format!("the answer has {} columns", columns.len()));
    };
    if features.len() != view.columns.len() {
        return Err(format!("the answer has {} features, not {}", features.len(), view.columns.len()));
    }
    wire(key, view.key, "text", |wire, nullable| wire == Wire::Text && !nullable)?;
    let time = |wire, nullable: bool| matches!(wire, Wire::DateTime | Wire::DateTime64(_)) && !nullable;
    let (computed_at, _) = wire(computed_at, view.computed_at, "a DateTime", time)?;
    let feature = |(column, wanted): (&Column, &FeatureColumn)| {
        let (wire, nullable) = wire(column, &wanted.name, &wanted.kind.to_string(), |wire, _| wire.is(wanted.kind))?;
        Ok((wire, nullable, wanted.kind))
    };
    let features = features.iter().zip(&view.columns).map(feature).collect::<Result<_, String>>()?;
    Ok(Wires { computed_at, features })
}

/// How a column is read, if it is the one that was asked for and its type fits.
fn wire(column: &Column, name: &str, wanted: &str, fits: impl Fn(Wire, bool) -> bool) -> Result<(Wire, bool), String> {
    if column.name != name {
        return Err(format!("the answer has column {}, not {name}", column.name));
    }
    match Wire::of(&column.data_type) {
        Some((wire, nullable)) if fits(wire, nullable) => Ok((wire, nullable)),
        _ => Err(format!("column {name} is {}, not {wanted}", column.data_type)),
    }
}

/// The next row; `None` where it is not all there, or is none.
fn row<'a>(input: &mut Input<'a>, wires: &Wires) -> Option<(&'a str, FeatureRow)> {
    let key = input.text()?;
    // Times before 1970 are no times of computing.
    let nanoseconds = u64::try_from(input.time(wires.computed_at)?).ok()?;
    let computed_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    let mut values = Vec::with_capacity(wires.features.len());
    for (wire, nullable, kind) in &wires.features {
        values.push(if input.null(*nullable)? { FeatureValue::Missing } else { input.value(*wire, *kind)? });
    }
    Some((key, FeatureRow { computed_at, values: values.into() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn view() -> FeatureView {
        let clicks = FeatureColumn { name: "clicks".to_owned(), kind: FeatureKind::Integer };
        FeatureView { name: "v", table: "t", key: "id", computed_at: "at", columns: vec![clicks] }
    }

    /// Names and types of three columns, then two rows.
    fn answer() -> Vec<u8> {
        let mut answer = vec![3];
        for text in ["id", "at", "clicks", "String", "DateTime", "Int16"] {
            answer.push(u8::try_from(text.len()).unwrap());
            answer.extend(text.as_bytes());
        }
        for (key, at, clicks) in [("a", 100_u32, 5_i16), ("wörd", 200, -6)] {
            answer.push(u8::try_from(key.len()).unwrap());
            answer.extend(key.as_bytes());
            answer.extend(at.to_le_bytes());
            answer.extend(clicks.to_le_bytes());
        }
        answer
    }

    fn decode(answer: &[u8], parts: usize, most: u64) -> Result<Rows, StoreError> {
        let view = view();
        let mut decoder = Decoder::new(&view, most);
        for part in answer.chunks(parts) {
            decoder.push(part)?;
        }
        decoder.end()
    }

    #[test]
    fn an_answer_may_be_cut_anywhere() {
        let answer = answer();
        let whole = decode(&answer, answer.len(), u64::MAX).unwrap();
        assert_eq!(whole["wörd"].values[0], FeatureValue::Integer(-6));
        assert_eq!(whole["a"].computed_at, SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        for parts in 1..answer.len() {
            assert_eq!(decode(&answer, parts, u64::MAX).unwrap(), whole, "parts of {parts}");
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error_unless_between_rows() {
        let answer = answer();
        let ends: Vec<_> = (0..=answer.len()).filter(|end| decode(&answer[..*end], 7, u64::MAX).is_ok()).collect();
        let row = |key: &str| 1 + key.len() + 4 + 2;
        let columns = answer.len() - row("a") - row("wörd");
        assert_eq!(ends, [columns, columns + row("a"), answer.len()]);
    }

    #[test]
    fn rows_count_against_the_most_that_is_meant() {
        let answer = answer();
        let rows = decode(&answer, 7, u64::MAX).unwrap();
        let all = rows.iter().map(|(key, row)| bytes(key, row)).sum::<u64>();
        assert!(decode(&answer, 7, all).is_ok());
        let most = all - 1;
        assert_eq!(decode(&answer, 7, most), Err(StoreError::TooLarge { view: "v", table: "t", most }));
    }
}
