//! Windows of a forecaster, whatever way a request brings its values, and quantiles, whatever a network gives.

#![allow(clippy::unwrap_used)]

use aibuyer_domain::forecast::{
    Frequency, Timestamp,
    window::{ForecastSpec, History, Quantiles},
};
use proptest::prelude::*;
use serde_json::json;

fn spec(frequency: &str, context: usize, horizon: usize) -> ForecastSpec {
    let spec = json!({
        "contract_version": 1,
        "model": {"name": "m", "kind": "forecast", "file": "model.onnx", "opset": 17},
        "frequency": frequency, "context_length": context, "horizon": horizon, "quantiles": [0.1, 0.5, 0.9],
        "missing": {"policy": "nan", "min_values": 1},
        "golden": {"file": "golden.jsonl", "relative_tolerance": 1e-4},
        "files_sha256": {"model.onnx": "0".repeat(64), "golden.jsonl": "0".repeat(64)},
    });
    ForecastSpec::parse(spec.to_string().as_bytes()).unwrap()
}

fn bits(window: &[f32]) -> Vec<u32> {
    window.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn a_value_left_out_is_one_that_is_nan(
        values in prop::collection::vec(prop::option::weighted(0.7, -1e6..1e6f64), 1..60),
        context in 1..50usize,
        frequency in prop::sample::select(vec!["15min", "h", "D", "B", "W-TUE", "2MS", "QE", "YS"]),
        start in 0..20_000i64,
    ) {
        // Dates are sent for what is there, and the last one always is.
        let mut values = values;
        *values.last_mut().unwrap() = Some(1.0);
        let spec = spec(frequency, context, 3);
        let start = Timestamp::from_micros(start * 86_400_000_000);
        let dates = Frequency::parse(frequency).unwrap().dates_from(start, values.len()).unwrap();
        let all: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::NAN)).collect();
        let ending = History::ending(all.clone(), *dates.last().unwrap(), &spec.frequency).unwrap();
        let (some, there): (Vec<_>, Vec<_>) = dates.iter().zip(&values).filter_map(|(d, v)| Some((*d, (*v)?))).unzip();
        let dated = History::dated(&some, &there, &spec.frequency).unwrap();
        let window = ending.window(&spec).unwrap();
        prop_assert_eq!(bits(&dated.window(&spec).unwrap()), bits(&window));
        prop_assert_eq!(dated.dates(&spec, 3).unwrap(), ending.dates(&spec, 3).unwrap());
        // The last values stand last, and nothing is before the first.
        #[allow(clippy::cast_possible_truncation)]
        let expected = (0..context).map(|back| all.len().checked_sub(back + 1).map_or(f32::NAN, |at| all[at] as f32));
        let reversed: Vec<f32> = window.iter().rev().copied().collect();
        prop_assert_eq!(bits(&reversed), bits(&expected.collect::<Vec<_>>()));
    }

    #[test]
    fn quantiles_ascend_and_are_those_of_the_step(outputs in prop::collection::vec(-1e9..1e9f32, 12)) {
        let quantiles = Quantiles::read(&spec("h", 4, 4), &outputs, 4).unwrap();
        let columns: Vec<Vec<f64>> = (0..3).map(|place| quantiles.at(place)).collect();
        for (step, given) in outputs.chunks(3).enumerate() {
            let mut given: Vec<f64> = given.iter().copied().map(f64::from).collect();
            given.sort_by(f64::total_cmp);
            prop_assert_eq!(columns.iter().map(|column| column[step]).collect::<Vec<_>>(), given);
        }
    }
}
