//! A prediction request as people write it: JSON, a value a feature, an object a candidate.
//!
//! ```json
//! {
//!   "model": "ctr-upworthy",
//!   "context": {"week": "201303"},
//!   "candidates": [{"headline": ["a", "dog"], "headline_chars": 5}, {"headline": ["a", "cat"]}]
//! }
//! ```

use aibuyer_domain::ctr::StringArray;
use aibuyer_proto::serving::v1 as pb;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonRequest {
    model: String,
    alias: Option<String>,
    version: Option<u64>,
    interval_level: Option<f64>,
    #[serde(default)]
    context: Map<String, Value>,
    pub(super) candidates: Vec<Map<String, Value>>,
}

impl JsonRequest {
    /// The request as the API has it.
    ///
    /// # Errors
    /// Names the feature whose values have no common type.
    pub(super) fn into_proto(self) -> Result<pb::PredictCtrRequest, String> {
        let pick = match (self.alias, self.version) {
            (Some(_), Some(_)) => return Err("name an alias or a version, not both".to_owned()),
            (Some(alias), None) => Some(pb::model_selector::Pick::Alias(alias)),
            (None, Some(version)) => Some(pb::model_selector::Pick::Version(version)),
            (None, None) => None,
        };
        let count = u32::try_from(self.candidates.len()).map_err(|_| "too many candidates")?;
        Ok(pb::PredictCtrRequest {
            model: Some(pb::ModelSelector { name: self.model, pick }),
            context: columns(&[self.context])?,
            candidates: columns(&self.candidates)?,
            candidate_count: Some(count),
            interval_level: self.interval_level,
            include_timings: true,
            ..Default::default()
        })
    }
}

/// Turns rows into columns; a feature that a row lacks, or has as null, is missing there.
fn columns(rows: &[Map<String, Value>]) -> Result<Vec<pb::Column>, String> {
    let mut names: Vec<&String> = rows.iter().flat_map(Map::keys).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| column(name, rows).map_err(|e| format!("{name:?}: {e}"))).collect()
}

fn column(name: &str, rows: &[Map<String, Value>]) -> Result<pb::Column, String> {
    use pb::column::Values;
    let cells: Vec<Option<&Value>> = rows.iter().map(|r| r.get(name).filter(|v| !v.is_null())).collect();
    let present = || cells.iter().flatten();
    let missing = cells.iter().zip(0u32..).filter(|(cell, _)| cell.is_none()).map(|(_, row)| row).collect();
    let values = if present().all(|v| v.is_boolean()) {
        let values = cells.iter().map(|c| c.and_then(Value::as_bool).unwrap_or_default()).collect();
        Values::Bools(pb::BoolValues { values })
    } else if present().all(|v| v.is_i64()) {
        let values = cells.iter().map(|c| c.and_then(Value::as_i64).unwrap_or_default()).collect();
        Values::Int64s(pb::Int64Values { values })
    } else if present().all(|v| v.is_number()) {
        let values = cells.iter().map(|c| c.and_then(Value::as_f64).unwrap_or_default()).collect();
        Values::Doubles(pb::DoubleValues { values })
    } else if present().all(|v| v.is_string()) {
        let texts = cells.iter().map(|c| c.and_then(Value::as_str).unwrap_or_default());
        Values::Strings(pb::StringValues { values: texts.collect() })
    } else if present().all(|v| v.is_array()) {
        let (mut values, mut lengths) = (StringArray::default(), Vec::new());
        for cell in &cells {
            let items = cell.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            lengths.push(u32::try_from(items.len()).map_err(|_| "a list is too long")?);
            for item in items {
                values.push(
                    item.as_str().ok_or("lists may hold only strings; for one number write it without brackets")?,
                );
            }
        }
        Values::StringLists(pb::StringListValues { values, lengths })
    } else {
        return Err("the values must all be numbers, all strings, all booleans or all lists of strings".to_owned());
    };
    Ok(pb::Column { name: name.to_owned(), values: Some(values), missing })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pb::column::Values;

    use super::*;

    fn parse(json: &str) -> Result<pb::PredictCtrRequest, String> {
        serde_json::from_str::<JsonRequest>(json).map_err(|e| e.to_string())?.into_proto()
    }

    #[test]
    fn rows_become_columns_and_gaps_become_missing_rows() {
        let request = parse(
            r#"{"model": "m", "version": 3, "context": {"week": "201303"},
                "candidates": [{"n": 1, "x": 1, "t": ["a", "b"]}, {"x": 2.5, "t": []}, {"n": null, "ok": true}]}"#,
        )
        .unwrap();
        assert_eq!(request.candidate_count, Some(3));
        assert_eq!(request.context[0].name, "week");
        let column = |name: &str| request.candidates.iter().find(|c| c.name == name).unwrap();
        assert_eq!(column("n").missing, [1, 2]);
        assert!(matches!(column("n").values.as_ref().unwrap(), Values::Int64s(v) if v.values == [1, 0, 0]));
        assert!(matches!(column("x").values.as_ref().unwrap(), Values::Doubles(v) if v.values == [1.0, 2.5, 0.0]));
        assert!(matches!(column("t").values.as_ref().unwrap(),
            Values::StringLists(v) if v.values.as_slice().iter().eq(["a", "b"]) && v.lengths == [2, 0, 0]));
        assert_eq!(column("t").missing, [2]);
        assert_eq!(column("ok").missing, [0, 1]);
    }

    #[test]
    fn mixed_types_and_misspelt_keys_are_named() {
        let error = parse(r#"{"model": "m", "candidates": [{"x": 1}, {"x": "one"}]}"#).unwrap_err();
        assert!(error.starts_with("\"x\": the values must all be"), "{error}");
        assert!(parse(r#"{"model": "m", "candidates": [{"x": [1]}]}"#).unwrap_err().contains("may hold only strings"));
        assert!(parse(r#"{"model": "m", "candidate": []}"#).unwrap_err().contains("unknown field `candidate`"));
    }
}
