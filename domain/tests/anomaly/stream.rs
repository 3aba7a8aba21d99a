//! What holds of the detector on any series.

use aibuyer_domain::anomaly::{Detector, Reading, Settings};
use proptest::prelude::*;

use crate::nab::{detections, tally};

/// Reproducible noise of mean 0, a sum of uniform numbers (SplitMix64).
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    move || (0..6).map(|_| uniform()).sum::<f64>() - 3.0
}

/// A daily wave with noise; from row 3000 on for 100 rows something happens.
fn wave(seed: u64, event: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut noise = noise(seed);
    (0..4000u32)
        .map(|i| {
            let usual = 10.0 * (f64::from(i) * std::f64::consts::TAU / 288.0).sin() + 50.0 + noise();
            if (3000..3100).contains(&i) { event(usual) } else { usual }
        })
        .collect()
}

fn readings(values: &[Option<f64>]) -> Vec<Reading> {
    let mut detector = Detector::new(Settings::default()).unwrap();
    values.iter().map(|v| detector.push(*v)).collect()
}

#[test]
fn spikes_and_shifts_are_found_and_quiet_series_are_left_alone() {
    type Event = fn(f64) -> f64;
    let events: [(&str, Event); 3] =
        [("spike", |x| x + 25.0), ("drop", |x| x - 40.0), ("wild", |x| 50.0 + 3.0 * (x - 50.0))];
    for seed in 0..5 {
        for (name, event) in events {
            let values = wave(seed, event);
            let score = tally(values.len(), &[(2950, 3150)], &detections(values)).score(0.11, 1.0);
            assert!(score > 70.0, "{name} {seed}: {score}");
        }
        let alarms = detections(wave(seed, |x| x)).len();
        assert!(alarms <= 6, "{alarms} alarms in 4000 usual values");
    }
    assert!(detections(vec![7.0; 5000]).is_empty());
}

#[test]
fn settings_out_of_range_are_named() {
    let good = Settings::default();
    let cases = [
        (Settings { short: 1, ..good }, "setting short: 1"),
        (Settings { step: 0, ..good }, "setting step: 0"),
        (Settings { block: 0, ..good }, "setting block: 0"),
        (Settings { long: good.short, ..good }, "setting long"),
        (Settings { threshold: f64::NAN, ..good }, "setting threshold: NaN"),
    ];
    for (settings, expect) in cases {
        let error = Detector::new(settings).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}

/// Series with steps, gaps and a few wild values.
fn any_series() -> impl Strategy<Value = Vec<Option<f64>>> {
    (0u64..1000, 0usize..1200, -30.0f64..30.0, 0.0f64..0.2).prop_map(|(seed, at, by, gaps)| {
        let mut noise = noise(seed);
        let mut value = |i| {
            let gap = noise().abs() < gaps;
            let x = noise() + if i > at { by } else { 0.0 };
            (!gap).then_some(if i % 331 == 330 { x * 20.0 } else { x })
        };
        (0..1500).map(&mut value).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_alert_falls_into_the_refractory_period(values in any_series()) {
        let found = readings(&values);
        let alerts: Vec<usize> = (0..found.len()).filter(|i| found[*i].alert).collect();
        let refractory = Settings::default().refractory as usize;
        prop_assert!(alerts.windows(2).all(|w| w[1] - w[0] > refractory));
    }

    #[test]
    fn missing_values_are_no_anomaly_and_no_news(values in any_series()) {
        let with = readings(&values);
        for (value, reading) in values.iter().zip(&with) {
            prop_assert!(value.is_some() || (reading.score == 0.0 && !reading.alert));
        }
        let present: Vec<Option<f64>> = values.iter().copied().filter(Option::is_some).collect();
        let scores = |of: &[Reading]| of.iter().map(|r| r.score).collect::<Vec<_>>();
        let kept: Vec<Reading> = with.iter().zip(&values).filter(|(_, v)| v.is_some()).map(|(r, _)| *r).collect();
        prop_assert_eq!(scores(&kept), scores(&readings(&present)));
        let nan: Vec<Option<f64>> = values.iter().map(|v| Some(v.unwrap_or(f64::NAN))).collect();
        prop_assert_eq!(readings(&nan), with);
    }

    #[test]
    fn unit_and_sign_and_zero_of_the_scale_do_not_matter(values in any_series(), shift in -1000.0f64..1000.0) {
        let plain = readings(&values);
        let scaled = |by: f64| values.iter().map(|v| v.map(|v| v * by)).collect::<Vec<_>>();
        prop_assert_eq!(&readings(&scaled(1024.0)), &plain);
        prop_assert_eq!(&readings(&scaled(-1.0)), &plain);
        let shifted: Vec<_> = values.iter().map(|v| v.map(|v| v + shift)).collect();
        for (a, b) in readings(&shifted).iter().zip(&plain) {
            prop_assert!((a.score - b.score).abs() < 1e-4 * (1.0 + b.score), "{} {}", a.score, b.score);
        }
    }

    #[test]
    fn a_detector_that_was_written_and_read_goes_on(values in any_series(), at in 0usize..1500) {
        let mut straight = Detector::new(Settings::default()).unwrap();
        for v in &values[..at] {
            straight.push(*v);
        }
        let text = serde_json::to_string(&straight).unwrap();
        let mut resumed: Detector = serde_json::from_str(&text).unwrap();
        // JSON as it is read here keeps doubles to their last unit.
        for v in &values[at..] {
            let (a, b) = (resumed.push(*v), straight.push(*v));
            prop_assert!(a.alert == b.alert && (a.score - b.score).abs() <= 1e-6 * (1.0 + b.score), "{a:?} {b:?}");
        }
    }
}
