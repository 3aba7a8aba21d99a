//! From an answer to rows: its columns and types first, then its values.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use clickhouse_types::{Column, parse_rbwnat_columns_header};

use super::wire::{Input, Wire};
use crate::{
    store::Rows,
    view::{EntityKey, FeatureKind, FeatureRow, FeatureValue, FeatureView},
};

/// The rows of an answer.
///
/// # Errors
/// When a column is not what the view says, or the answer ends early.
pub(super) fn rows(view: &FeatureView, answer: &[u8]) -> Result<Rows, String> {
    let mut input = answer;
    let columns = parse_rbwnat_columns_header(&mut input).map_err(|e| format!("the answer has no columns: {e}"))?;
    let [key, computed_at, features @ ..] = &columns[..] else {
        return Err(format!("the answer has {} columns", columns.len()));
    };
    if features.len() != view.columns.len() {
        return Err(format!("the answer has {} features, not {}", features.len(), view.columns.len()));
    }
    wire(key, view.key, "text", |wire, nullable| wire == Wire::Text && !nullable)?;
    let time = |wire, nullable: bool| matches!(wire, Wire::DateTime | Wire::DateTime64(_)) && !nullable;
    let (computed_at, _) = wire(computed_at, view.computed_at, "a DateTime", time)?;
    let mut wires = Vec::with_capacity(features.len());
    for (column, wanted) in features.iter().zip(&view.columns) {
        let (wire, nullable) = wire(column, &wanted.name, &wanted.kind.to_string(), |wire, _| wire.is(wanted.kind))?;
        wires.push((wire, nullable, wanted.kind));
    }
    let mut input = Input(input);
    let mut rows = HashMap::new();
    let mut twice = HashSet::new();
    while !input.0.is_empty() {
        let (key, row) = row(&mut input, computed_at, &wires).ok_or("the answer ends in the middle of a row")?;
        let key = EntityKey::new(key).map_err(|e| e.to_string())?;
        if rows.insert(key.clone(), row).is_some() {
            twice.insert(key);
        }
    }
    // Either row may be the wrong one. The others are not held up by it.
    for key in &twice {
        rows.remove(key);
        tracing::warn!(view = view.name, table = view.table, key = key.as_str(), "more than one row: taken as absent");
    }
    Ok(rows)
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

fn row<'a>(
    input: &mut Input<'a>,
    computed_at: Wire,
    wires: &[(Wire, bool, FeatureKind)],
) -> Option<(&'a str, FeatureRow)> {
    let key = input.text()?;
    // Times before 1970 are no times of computing.
    let nanoseconds = u64::try_from(input.time(computed_at)?).ok()?;
    let computed_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    let mut values = Vec::with_capacity(wires.len());
    for (wire, nullable, kind) in wires {
        values.push(if input.null(*nullable)? { FeatureValue::Missing } else { input.value(*wire, *kind)? });
    }
    Some((key, FeatureRow { computed_at, values: values.into() }))
}
