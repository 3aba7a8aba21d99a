//! Worked examples that ship with a forecaster: values in, quantiles out.

use serde::Deserialize;

use super::{
    history::{History, HistoryError},
    spec::ForecastSpec,
};
use crate::{ctr::golden::GoldenError, forecast::Timestamp};

/// With one example alone nobody could tell whether rows of a batch affect each other.
const FEWEST: usize = 2;

/// One worked example.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Values of a series, oldest first; null where one is missing.
    context: Vec<Option<f64>>,
    /// What the model gives, by step, then by quantile.
    quantiles: Vec<Vec<f32>>,
    #[serde(rename = "note")]
    _note: Option<String>,
}

fn wrong(index: usize, reason: impl Into<String>) -> GoldenError {
    GoldenError { line: index + 1, reason: reason.into() }
}

/// Reads a golden file, one JSON object a line.
///
/// # Errors
/// [`GoldenError`] for a line that is not an example of this spec, or fewer than two of them.
pub fn parse(text: &str, spec: &ForecastSpec) -> Result<Vec<Golden>, GoldenError> {
    let mut examples = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let example: Golden = serde_json::from_str(line).map_err(|e| wrong(i, e.to_string()))?;
        let (horizon, width) = (spec.horizon, spec.quantiles.len());
        if example.quantiles.len() != horizon || example.quantiles.iter().any(|step| step.len() != width) {
            return Err(wrong(i, format!("quantiles are not {width} numbers at each of {horizon} steps")));
        }
        examples.push(example);
    }
    match examples.len() {
        found if found < FEWEST => {
            Err(wrong(found, "is missing: there must be two, to tell whether rows of a batch affect each other"))
        }
        _ => Ok(examples),
    }
}

/// The window of every example.
///
/// # Errors
/// [`GoldenError`] names the first example that a request could not send.
pub fn windows(spec: &ForecastSpec, golden: &[Golden]) -> Result<Vec<Vec<f32>>, GoldenError> {
    let window = |example: &Golden| -> Result<Vec<f32>, HistoryError> {
        let values = example.context.iter().map(|value| value.unwrap_or(f64::NAN)).collect();
        History::undated(values).window(spec)
    };
    let numbered = golden.iter().enumerate();
    numbered.map(|(i, example)| window(example).map_err(|e| wrong(i, e.to_string()))).collect()
}

/// Compares what the model gave for each example with what is stored.
///
/// # Errors
/// [`GoldenError`] names the first example that differs by more than the spec's tolerance.
pub fn check<'a>(
    golden: &[Golden],
    spec: &ForecastSpec,
    outputs: impl IntoIterator<Item = &'a [f32]>,
) -> Result<(), GoldenError> {
    let mut outputs = outputs.into_iter();
    for (i, example) in golden.iter().enumerate() {
        let got = outputs.next().unwrap_or_default();
        let wanted: Vec<f32> = example.quantiles.concat();
        let tolerance =
            spec.golden.relative_tolerance * wanted.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // A NaN is within no tolerance.
        let near = |at: &usize| got.get(*at).is_some_and(|got| (got - wanted[*at]).abs() <= tolerance);
        if let Some(at) = (0..wanted.len()).find(|at| !near(at)) {
            let (step, place) = (at / spec.quantiles.len(), at % spec.quantiles.len());
            let (got, wanted) = (got.get(at).copied().unwrap_or(f32::NAN), wanted[at]);
            let probability = spec.quantiles[place];
            let reason = format!(
                "quantile {probability} at step {step} is {got}, the file has {wanted} (tolerance {tolerance})"
            );
            return Err(wrong(i, reason));
        }
    }
    Ok(())
}

impl History {
    /// Values of which nobody asks when they were.
    fn undated(values: Vec<f64>) -> Self {
        Self { values, last: Timestamp::from_micros(0) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::spec::example, *};

    const TWO: &str = r#"{"context": [1, null, 3, 4], "quantiles": [[1, 2, 3], [4, 5, 100]]}
{"context": [1, 2], "quantiles": [[1, 2, 3], [4, 5, 6]], "note": "short"}"#;

    fn spec() -> ForecastSpec {
        ForecastSpec::parse(example().to_string().as_bytes()).unwrap()
    }

    #[test]
    fn examples_go_the_way_of_requests_and_are_compared_by_their_own_scale() {
        let golden = parse(TWO, &spec()).unwrap();
        assert_eq!(format!("{:?}", windows(&spec(), &golden).unwrap()), "[[1.0, NaN, 3.0, 4.0], [NaN, NaN, 1.0, 2.0]]");
        let second: &[f32] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let check = |first: &[f32]| check(&golden, &spec(), [first, second]);
        assert_eq!(check(&[1.005, 2.0, 3.0, 4.0, 5.0, 100.0]), Ok(()));
        let error = check(&[1.0, 2.0, 3.0, 4.02, 5.0, 100.0]).unwrap_err();
        assert_eq!(error.line, 1);
        assert!(error.reason.starts_with("quantile 0.1 at step 1 is 4.02, the file has 4"), "{error}");
        assert!(check(&[f32::NAN, 2.0, 3.0, 4.0, 5.0, 100.0]).is_err());
        assert!(check(&[1.0]).is_err());
    }

    #[test]
    fn examples_that_are_none_are_named() {
        let one = TWO.lines().next().unwrap();
        let cases = [
            (String::new(), 1, "is missing"),
            (one.to_owned(), 2, "there must be two"),
            (format!("{one}\n{{}}"), 2, "missing field `context`"),
            (format!("{one}\n{}", one.replace("quantiles", "quantile")), 2, "unknown field `quantile`"),
            (format!("{one}\n{}", one.replace(", 100", "")), 2, "are not 3 numbers at each of 2 steps"),
        ];
        for (text, line, part) in cases {
            let error = parse(&text, &spec()).unwrap_err();
            assert!(error.line == line && error.reason.contains(part), "{part}: {error}");
        }
        let short = TWO.replace("[1, 2],", "[1],");
        let error = windows(&spec(), &parse(&short, &spec()).unwrap()).unwrap_err();
        assert!(error.line == 2 && error.reason.contains("the model needs 2"), "{error}");
    }
}
