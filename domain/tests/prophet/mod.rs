//! Reading a corpus of reference cases, and what each must satisfy.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aibuyer_domain::forecast::{Column, Forecast, Frame, FutureError, Method, Options, Prophet, Timestamp};
use serde_json::Value;

/// A folder of facts next to the repository.
pub(crate) fn shared(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder)
}

/// The folders that hold cases.
pub(crate) fn corpora() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/prophet");
    let other = std::env::var_os("AIBUYER_PROPHET_CASES").map_or_else(|| shared("prophet"), PathBuf::from);
    let there = |folder: &PathBuf| {
        let there = folder.join("cases").is_dir();
        if !there {
            eprintln!("skipped: no cases in {}", folder.display());
        }
        there
    };
    [own, other].into_iter().filter(there).collect()
}

/// One reference case.
pub(crate) struct Case {
    pub(crate) name: String,
    model: Prophet,
    frame: Frame,
    expected: Value,
}

pub(crate) fn cases(corpus: &Path) -> Vec<Case> {
    let mut folders: Vec<_> = fs::read_dir(corpus.join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.iter().map(|folder| case(folder)).collect()
}

pub(crate) fn case(folder: &Path) -> Case {
    let read =
        |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let future: Value = serde_json::from_str(&read("future.json")).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let model = Prophet::parse(&read("model.json")).unwrap_or_else(|e| panic!("{name}: {e}"));
    let frame = frame(&future["columns"]).unwrap_or_else(|e| panic!("{name}: {e}"));
    Case { name, model, frame, expected: serde_json::from_str(&read("expected.json")).unwrap() }
}

/// A frame of JSON columns; a null number is NaN, a null date an error.
fn frame(columns: &Value) -> Result<Frame, FutureError> {
    let times = columns["ds"].as_array().unwrap().iter().map(|text| Timestamp::parse(text.as_str().unwrap_or("")));
    let mut frame = Frame::new(times.collect::<Result<_, _>>()?);
    for (name, values) in columns.as_object().unwrap().iter().filter(|(name, _)| *name != "ds") {
        let values = values.as_array().unwrap();
        let flags: Option<Vec<_>> = values.iter().map(Value::as_bool).collect();
        let numbers = || values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
        frame = frame.with(name, flags.map_or_else(|| Column::Numbers(numbers()), Column::Flags));
    }
    Ok(frame)
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn compare(column: &str, ours: &[f64], theirs: &[f64], y_scale: f64) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{column}: {} rows for {}", ours.len(), theirs.len()));
    }
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if ours.is_nan() || (ours - theirs).abs() > 1e-9 * theirs.abs().max(y_scale.min(1.0)) {
            return Err(format!("{column}, row {row}: {ours} for {theirs}"));
        }
    }
    Ok(())
}

impl Case {
    pub(crate) fn with_model(self, text: &str) -> Self {
        Self { model: Prophet::parse(text).unwrap(), ..self }
    }

    fn number(&self, key: &str) -> f64 {
        self.expected[key].as_f64().unwrap()
    }

    fn draws(&self) -> u64 {
        self.expected["draws"].as_u64().unwrap()
    }

    /// Every column that Prophet computes without simulation, and no other.
    pub(crate) fn check_exact(&self) -> Result<(), String> {
        let y_scale = self.number("y_scale");
        let width = self.number("interval_width");
        let with_intervals = self.expected["uncertainty_samples"].as_f64().is_some_and(|samples| samples > 0.0);
        if self.model.interval_width().is_some() != with_intervals {
            return Err("intervals".into());
        }
        let options =
            Options { components: true, ..if with_intervals { Options::interval(width) } else { Options::default() } };
        let forecast = self.model.forecast(&self.frame, &options).map_err(|error| error.to_string())?;
        let times = forecast.times.iter().map(ToString::to_string);
        if !times.eq(self.expected["ds"].as_array().unwrap().iter().map(|ds| ds.as_str().unwrap())) {
            return Err("other dates".into());
        }
        let moved = forecast.order.iter().map(|row| self.frame.times()[*row]);
        if !moved.eq(forecast.times.iter().copied()) {
            return Err("other order".into());
        }
        let mut ours = vec![("trend".to_owned(), &forecast.trend), ("yhat".to_owned(), &forecast.yhat)];
        for component in &forecast.components {
            ours.push((component.name.clone(), &component.values));
            for (column, suffix) in component.quantiles.iter().zip(["lower", "upper"]) {
                ours.push((format!("{}_{suffix}", component.name), column));
            }
        }
        let theirs = self.expected["exact"].as_object().unwrap();
        let names: BTreeSet<_> = ours.iter().map(|(name, _)| name).collect();
        if !names.into_iter().eq(theirs.keys().collect::<BTreeSet<_>>()) {
            return Err(format!("columns {:?}", ours.iter().map(|(name, _)| name).collect::<Vec<_>>()));
        }
        ours.iter().try_for_each(|(name, values)| compare(name, values, &numbers(&theirs[name]), y_scale))
    }

    fn options(&self, seed: u64) -> Options {
        Options { trend: true, seed, ..Options::interval(self.number("interval_width")) }
    }

    fn columns(forecast: &Forecast) -> [(&str, &Vec<f64>); 4] {
        [
            ("yhat_lower", &forecast.quantiles[0]),
            ("yhat_upper", &forecast.quantiles[1]),
            ("trend_lower", &forecast.trend_quantiles[0]),
            ("trend_upper", &forecast.trend_quantiles[1]),
        ]
    }

    /// The rows outside a band.
    fn outside(&self, column: &str, values: &[f64], band: &str) -> Vec<usize> {
        let band = &self.expected["monte_carlo"]["columns"][column][band];
        let (low, high) = match band.as_array().unwrap().len() {
            2 if values.len() != 2 || band[0].as_array().unwrap().len() != 2 => (numbers(&band[0]), numbers(&band[1])),
            _ => band
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap()))
                .unzip(),
        };
        assert_eq!((low.len(), high.len()), (values.len(), values.len()), "{}", self.name);
        let give = 1e-6 * self.number("y_scale");
        let rows = values.iter().zip(low.iter().zip(&high)).enumerate();
        rows.filter(|(_, (x, (low, high)))| !(**x >= *low - give && **x <= *high + give)).map(|(row, _)| row).collect()
    }

    fn has_bands(&self) -> bool {
        self.expected["monte_carlo"]["columns"].is_object()
    }

    pub(crate) fn check_exact_intervals(&self) -> Result<(), String> {
        if !self.model.has_exact_law() || !self.has_bands() {
            return Ok(());
        }
        let forecast = self.model.forecast(&self.frame, &self.options(0)).unwrap();
        assert_eq!(forecast.method, Method::Exact);
        for (column, values) in Self::columns(&forecast) {
            for band in ["tight", "loose"] {
                let outside = self.outside(column, values, band);
                if !outside.is_empty() {
                    return Err(format!("{column} {band}, rows {outside:?}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn check_simulated_intervals(&self) -> Result<(), String> {
        if self.model.has_exact_law() || !self.has_bands() {
            return Ok(());
        }
        let runs = self.expected["monte_carlo"]["runs"].as_u64().unwrap();
        let mut sums: [Vec<f64>; 4] = Default::default();
        let mut outliers = 0;
        for seed in 0..runs {
            let forecast = self.model.forecast(&self.frame, &self.options(seed)).unwrap();
            let mut outlier = false;
            for ((column, values), sum) in Self::columns(&forecast).into_iter().zip(&mut sums) {
                sum.resize(values.len(), 0.0);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                let allowed = if self.draws() > 1 { values.len() / 20 } else { 0 };
                outlier |= self.outside(column, values, "loose").len() > allowed;
            }
            outliers += u64::from(outlier);
        }
        // Of Prophet's own runs one in ten is outside where few draws decide a percentile.
        if outliers * 5 > runs {
            return Err(format!("{outliers} of {runs} runs are outside the loose band"));
        }
        for (column, sum) in ["yhat_lower", "yhat_upper", "trend_lower", "trend_upper"].into_iter().zip(&sums) {
            #[allow(clippy::cast_precision_loss)]
            let mean: Vec<_> = sum.iter().map(|sum| sum / runs as f64).collect();
            let outside = self.outside(column, &mean, "tight");
            if !outside.is_empty() {
                return Err(format!("{column} tight, rows {outside:?}"));
            }
        }
        Ok(())
    }

    /// A law's quantiles are the forecast's, and its distribution function is their inverse.
    pub(crate) fn check_laws(&self) -> Result<(), String> {
        let probabilities = vec![0.001, 0.05, 0.1, 0.4, 0.5, 0.6, 0.95, 0.999];
        let options = Options { quantiles: probabilities.clone(), ..Options::default() };
        let forecast = self.model.forecast(&self.frame, &options).unwrap();
        let laws = self.model.laws(&self.frame, &options).unwrap();
        let y_scale = self.number("y_scale");
        for (row, (place, law)) in laws.iter().enumerate() {
            if *place != forecast.order[row] || law.centre() != forecast.yhat[row] {
                return Err(format!("row {row} is another"));
            }
            for (probability, column) in probabilities.iter().zip(&forecast.quantiles) {
                let quantile = law.quantile(*probability);
                let spread = law.quantile(0.75) - law.quantile(0.25);
                if (quantile - column[row]).abs() > 1e-7 * spread + 1e-12 * y_scale {
                    return Err(format!("row {row}, quantile {probability}: {quantile} for {}", column[row]));
                }
                // A law that is narrow for how large its values are is rounded with them.
                let (back, rounding) = (law.cdf(quantile), 1e-15 * quantile.abs());
                let (low, high) = (law.cdf(quantile - rounding), law.cdf(quantile + rounding));
                let close = if law.is_exact() { 2e-8 } else { 0.05 };
                if low - close > *probability || high + close < *probability {
                    return Err(format!("row {row}: cdf of quantile {probability} is {back}"));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn check_edge_cases(corpus: &Path, text: &str) {
    let edges: Vec<Value> = serde_json::from_str(text).unwrap();
    for edge in &edges {
        let Case { model, .. } = case(&corpus.join("cases").join(edge["case"].as_str().unwrap()));
        let answer = frame(&edge["columns"]).and_then(|frame| model.forecast(&frame, &Options::default()));
        let change = &edge["change"];
        match (edge["prophet"].as_str().unwrap(), answer) {
            ("error", Err(error)) => eprintln!("{change}: {error}"),
            ("ok", Ok(forecast)) => compare("yhat", &forecast.yhat, &numbers(&edge["yhat"]), 1.0).unwrap(),
            (prophet, answer) => panic!("{change}: Prophet says {prophet}, we say {answer:?}"),
        }
    }
    eprintln!("edge cases: {} of {}", edges.len(), edges.len());
}

/// `golden.json`: rows with inputs and expected values.
pub(crate) fn check_golden(folder: &Path) {
    let model = Prophet::parse(&fs::read_to_string(folder.join("model.pr")).unwrap()).unwrap();
    let golden: Value = serde_json::from_str(&fs::read_to_string(folder.join("golden.json")).unwrap()).unwrap();
    let rows = golden["rows"].as_array().unwrap();
    let mut columns = serde_json::Map::new();
    for name in golden["columns"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        columns.insert(name.to_owned(), rows.iter().map(|row| row[name].clone()).collect());
    }
    let options = Options { components: true, ..Options::default() };
    let forecast = model.forecast(&frame(&Value::Object(columns)).unwrap(), &options).unwrap();
    let component = |name: &str| &forecast.components.iter().find(|part| part.name == name).unwrap().values;
    for (name, values) in [
        ("trend", &forecast.trend),
        ("yhat", &forecast.yhat),
        ("additive_terms", component("additive_terms")),
        ("multiplicative_terms", component("multiplicative_terms")),
    ] {
        let theirs: Vec<_> = rows.iter().map(|row| row["expected"][name].as_f64().unwrap()).collect();
        compare(name, values, &theirs, 1.0).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
}
