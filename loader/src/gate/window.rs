//! Whether callers of one forecaster can call another without a change.

use aibuyer_domain::forecast::window::{ForecastSpec, Missing};

/// Whether every request to `serving` is one to `candidate`, and gets every quantile and step that it got.
pub(super) fn spec(candidate: &ForecastSpec, serving: &ForecastSpec) -> Result<(), String> {
    let (new, old) = (&candidate.frequency, &serving.frequency);
    if !new.frequency.agrees(old.frequency) {
        return Err(format!("it goes by steps of `{new}`, and callers send values at steps of `{old}`"));
    }
    if candidate.horizon < serving.horizon {
        let (new, old) = (candidate.horizon, serving.horizon);
        return Err(format!("it forecasts {new} steps, and callers may ask for {old}"));
    }
    if let Some(lost) = serving.quantiles.iter().find(|old| candidate.place_of(**old).is_err()) {
        return Err(format!("it does not give the quantile {lost}, which callers may ask for"));
    }
    if candidate.missing == (Missing::Reject {}) && serving.missing != (Missing::Reject {}) {
        return Err("it takes no missing values, and callers may send them".to_owned());
    }
    // What callers send is there somewhere in the old context: a shorter one may not see all of it.
    let unseen = serving.context_length.saturating_sub(candidate.context_length);
    let (needed, sure) = (candidate.min_values(), serving.min_values().saturating_sub(unseen));
    if needed > sure {
        let length = candidate.context_length;
        return Err(format!("it needs {needed} values among the last {length}, and callers may send {sure} of them"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn forecaster(edit: &[(&str, Value)]) -> ForecastSpec {
        let mut spec = json!({
            "contract_version": 1,
            "model": {"name": "m", "kind": "forecast", "file": "model.onnx", "opset": 17},
            "frequency": "h", "context_length": 48, "horizon": 24, "quantiles": [0.1, 0.5, 0.9],
            "missing": {"policy": "nan", "min_values": 24},
            "golden": {"file": "golden.jsonl", "relative_tolerance": 1e-4},
            "files_sha256": {"model.onnx": "0".repeat(64), "golden.jsonl": "0".repeat(64)},
        });
        for (key, value) in edit {
            spec[key] = value.clone();
        }
        ForecastSpec::parse(spec.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn requests_of_today_stay_valid_and_get_what_they_got() {
        let nan = |least: usize| ("missing", json!({"policy": "nan", "min_values": least}));
        let reject = || ("missing", json!({"policy": "reject"}));
        let length = |length: usize| ("context_length", json!(length));
        let good = [
            vec![],
            vec![("frequency", json!("60min"))],
            vec![("horizon", json!(48))],
            vec![("quantiles", json!([0.05, 0.1, 0.5, 0.9]))],
            vec![length(168)],
            vec![length(36), nan(12)],
        ];
        for edit in good {
            assert_eq!(spec(&forecaster(&edit), &forecaster(&[])), Ok(()), "{edit:?}");
        }
        let bad = [
            (vec![("frequency", json!("D"))], "steps of `D`, and callers send values at steps of `h`"),
            (vec![("horizon", json!(12))], "forecasts 12 steps, and callers may ask for 24"),
            (vec![("quantiles", json!([0.1, 0.5]))], "does not give the quantile 0.9"),
            (vec![reject()], "takes no missing values"),
            (vec![nan(25)], "needs 25 values among the last 48, and callers may send 24 of them"),
            (vec![length(36), nan(13)], "needs 13 values among the last 36, and callers may send 12 of them"),
        ];
        for (edit, part) in bad {
            let reason = spec(&forecaster(&edit), &forecaster(&[])).unwrap_err();
            assert!(reason.contains(part), "{part}: {reason}");
        }
        // Where all values are there, a shorter context is full too, and a longer one is not.
        let strict = |context: usize| forecaster(&[reject(), length(context)]);
        assert_eq!(spec(&strict(24), &strict(48)), Ok(()));
        assert_eq!(spec(&forecaster(&[]), &strict(48)), Ok(()));
        assert!(spec(&strict(72), &strict(48)).unwrap_err().contains("needs 72 values"));
    }
}
