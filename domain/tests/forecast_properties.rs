//! Laws of random models: quantiles and distribution function are inverse and monotone, and simulation agrees.

#![allow(clippy::unwrap_used)]

use aibuyer_domain::forecast::{Frame, Frequency, Method, Options, Prophet, Timestamp};
use proptest::prelude::*;
use serde_json::json;

/// What shapes the law of a model without seasonality.
#[derive(Debug, Clone)]
struct Shape {
    changepoints: u32,
    change: f64,
    sigma: f64,
    /// Days of history, so that a future day is 1 / days of scaled time.
    days: u32,
    rows: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = |low: f64, high: f64| (low..high).prop_map(|power| 10f64.powf(power));
    let sigma = prop_oneof![1 => Just(0.0), 4 => size(-9.0, 0.0), 4 => size(-2.5, -0.5)];
    (1_u32..60, size(-4.0, 1.0), sigma, 10_u32..2_000, 1_usize..250)
        .prop_map(|(changepoints, change, sigma, days, rows)| Shape { changepoints, change, sigma, days, rows })
}

/// A linear model with that law, its one draw given `draws` times.
fn model(shape: &Shape, draws: usize) -> Prophet {
    let changepoints: Vec<_> =
        (1..=shape.changepoints).map(|i| 0.8 * f64::from(i) / f64::from(shape.changepoints)).collect();
    let delta: Vec<_> =
        (0..shape.changepoints).map(|i| if i % 2 == 0 { shape.change } else { -shape.change }).collect();
    let each = |value: f64| vec![vec![value]; draws];
    let text = json!({
        "growth": "linear", "start": 1_577_836_800.0, "t_scale": 86_400.0 * f64::from(shape.days), "y_scale": 2.0,
        "changepoints_t": changepoints, "seasonalities": [[], {}], "seasonality_mode": "additive",
        "extra_regressors": [[], {}], "interval_width": 0.8, "uncertainty_samples": 1000,
        "params": {
            "k": each(0.5), "m": each(0.1), "sigma_obs": each(shape.sigma),
            "delta": vec![delta; draws], "beta": each(0.0),
        },
    });
    Prophet::parse(&text.to_string()).unwrap()
}

fn frame(shape: &Shape) -> Frame {
    let end = Timestamp::from_micros((1_577_836_800 + 86_400 * i64::from(shape.days)) * 1_000_000);
    Frame::new(Frequency::parse("D").unwrap().dates_after(end, shape.rows).unwrap())
}

const LEVELS: [f64; 9] = [0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.999];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantiles_ascend_are_symmetric_and_invert_the_distribution(shape in shape()) {
        let (model, frame) = (model(&shape, 1), frame(&shape));
        let options = Options { quantiles: LEVELS.to_vec(), trend: true, ..Options::default() };
        let forecast = model.forecast(&frame, &options).unwrap();
        prop_assert_eq!(forecast.method, Method::Exact);
        let laws = model.laws(&frame, &options).unwrap();
        for row in [0, shape.rows / 3, shape.rows - 1] {
            let (law, centre) = (&laws[row].1, forecast.yhat[row]);
            for columns in [&forecast.quantiles, &forecast.trend_quantiles] {
                let values: Vec<_> = columns.iter().map(|column| column[row]).collect();
                prop_assert!(values.is_sorted(), "row {row}: {values:?}");
                let off = (values[1] + values[7] - 2.0 * centre).abs();
                prop_assert!(off <= 1e-12 * (values[8] - values[0]) + 1e-14 * centre.abs());
                // The trend's law is the value's without noise.
                prop_assert!(shape.sigma > 0.0 || columns == &forecast.quantiles);
            }
            for (level, column) in LEVELS.iter().zip(&forecast.quantiles) {
                let x = column[row];
                let rounding = 4e-16 * x.abs() + 1e-7 * (x - centre).abs();
                let (low, high) = (law.cdf(x - rounding), law.cdf(x + rounding));
                prop_assert!(low - 3e-8 <= *level && *level <= high + 3e-8, "row {row}, {level}: {low} to {high}");
                let p = law.p_value(x);
                prop_assert!((p - 2.0 * law.cdf(x).min(1.0 - law.cdf(x))).abs() < 1e-6 || x == centre);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simulation_agrees_with_the_law(shape in shape()) {
        let shape = Shape { rows: shape.rows.min(60), ..shape };
        let frame = frame(&shape);
        let options = Options { samples: 4_000, seed: 5, trend: true, quantiles: LEVELS.to_vec(), ..Options::default() };
        let simulated = model(&shape, 2).forecast(&frame, &options).unwrap();
        prop_assert_eq!(simulated.method, Method::MonteCarlo { samples: 20_000 });
        let exact = model(&shape, 1);
        let laws = exact.laws(&frame, &options).unwrap();
        for row in [0, shape.rows / 2, shape.rows - 1] {
            for (level, column) in LEVELS.iter().zip(&simulated.quantiles) {
                let (law, x) = (&laws[row].1, column[row]);
                // Five standard errors of the median of five runs of 4,000.
                let error = 5.0 * 1.3 * (level * (1.0 - level) / 20_000.0).sqrt() + 1e-3;
                let rounding = 4e-16 * x.abs() + 1e-6 * (x - law.centre()).abs();
                let (low, high) = (law.cdf(x - rounding), law.cdf(x + rounding));
                prop_assert!(low - error <= *level && *level <= high + error, "row {row}, {level}: {low} to {high}");
            }
        }
    }
}
