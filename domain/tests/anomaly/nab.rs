//! The Numenta Anomaly Benchmark's score (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015), on
//! the series in the folder `shared` beside the repository (or where `AIBUYER_SHARED` points).

use std::{
    collections::BTreeMap,
    fs,
    ops::AddAssign,
    path::{Path, PathBuf},
};

use aibuyer_domain::anomaly::{Detector, Settings};

/// What a set of series came to, before the profile's costs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    rewards: f64,
    /// Weights of false alarms, most of them negative.
    alarms: f64,
    missed: f64,
    windows: f64,
    pub false_alarms: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.rewards += other.rewards;
        self.alarms += other.alarms;
        self.missed += other.missed;
        self.windows += other.windows;
        self.false_alarms += other.false_alarms;
    }
}

impl Tally {
    /// 0 for a detector that says nothing, 100 for a perfect one.
    pub fn score(&self, fp_weight: f64, fn_weight: f64) -> f64 {
        let total = self.rewards + fp_weight * self.alarms - fn_weight * self.missed;
        100.0 * (total + fn_weight * self.windows) / (self.windows + fn_weight * self.windows)
    }
}

fn sigma(p: f64) -> f64 {
    if p > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * p).exp()) - 1.0 }
}

/// Scores detections, as rows in order, in a series of `rows` rows with anomalous windows from row to row.
pub fn tally(rows: usize, windows: &[(usize, usize)], detections: &[usize]) -> Tally {
    let probation = (0.15 * rows as f64).min(750.0).ceil() as usize;
    let mut tally = Tally { windows: windows.len() as f64, ..Tally::default() };
    let scored = || detections.iter().filter(|d| **d >= probation);
    let inside = |d: usize, w: &(usize, usize)| w.0 <= d && d <= w.1;
    for window in windows {
        let length = (window.1 - window.0 + 1) as f64;
        match scored().find(|d| inside(**d, window)) {
            Some(d) => tally.rewards += sigma(-((window.1 - d + 1) as f64) / length) / sigma(-1.0),
            None => tally.missed += 1.0,
        }
    }
    for &d in scored().filter(|d| !windows.iter().any(|w| inside(**d, w))) {
        tally.false_alarms += 1;
        tally.alarms += match windows.iter().rev().find(|w| w.1 < d) {
            None => -1.0,
            Some((from, to)) => sigma((d - to) as f64 / (to - from) as f64),
        };
    }
    tally
}

pub fn detections(values: impl IntoIterator<Item = f64>) -> Vec<usize> {
    let mut detector = Detector::new(Settings::default()).unwrap();
    let alerts = values.into_iter().enumerate().filter(|(_, v)| detector.push(Some(*v)).alert);
    alerts.map(|(row, _)| row).collect()
}

fn series(file: &Path, windows: &[(String, String)]) -> Tally {
    let text = fs::read_to_string(file).unwrap();
    let rows: Vec<(&str, f64)> = text
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap())
        .map(|(time, value)| (time, value.parse().unwrap()))
        .collect();
    // Times of one format sort as text; windows have fractions of a second that rows lack.
    let row = |time: &str, after: bool| rows.partition_point(|(t, _)| *t < &time[..19] || (after && *t == &time[..19]));
    let windows: Vec<_> = windows.iter().map(|(from, to)| (row(from, false), row(to, true) - 1)).collect();
    tally(rows.len(), &windows, &detections(rows.iter().map(|(_, v)| *v)))
}

#[test]
fn the_scorer_gives_0_to_silence_and_100_to_perfection() {
    let windows = [(1000, 1200), (3000, 3100)];
    let score = |detections: &[usize]| tally(4000, &windows, detections).score(0.11, 1.0);
    assert_eq!(score(&[]), 0.0);
    assert!((score(&[1000, 3000]) - 100.0).abs() < 1e-9);
    assert_eq!(score(&[10, 599]), 0.0, "probation is not scored");
    assert!((score(&[1000, 1100, 3000]) - 100.0).abs() < 1e-9, "only the first detection of a window counts");
    assert!((score(&[700]) - 100.0 * -0.11 / 4.0).abs() < 1e-9);
    assert!(score(&[1210]) > -0.5 && score(&[2900]) < -2.7, "an alarm just after a window costs little");
    assert!(score(&[1200]) > 24.0 && score(&[1200]) < 26.0);
}

/// The settings were tuned on every other file by name, beginning with the second; the other half reports.
#[test]
fn labelled_series_score_what_they_should() {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("AIBUYER_SHARED").map_or(beside, PathBuf::from).join("nab");
    let Ok(labels) = fs::read_to_string(folder.join("windows.json")) else {
        eprintln!("skipped: no labelled series in {}", folder.display());
        return;
    };
    let labels: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&labels).unwrap();
    let mut halves = [Tally::default(); 2];
    for (i, (name, windows)) in labels.iter().enumerate() {
        let came_to = series(&folder.join("data").join(name), windows);
        eprintln!("{name}: missed {} of {}, {} false", came_to.missed, came_to.windows, came_to.false_alarms);
        halves[i % 2] += came_to;
    }
    let mut all = halves[0];
    all += halves[1];
    for (name, of) in [("reported half", halves[0]), ("tuned half", halves[1]), ("all", all)] {
        let [standard, low_fp, low_fn] = [(0.11, 1.0), (0.22, 1.0), (0.11, 2.0)].map(|(fp, miss)| of.score(fp, miss));
        eprintln!("{name}: standard {standard:.1}, low-FP {low_fp:.1}, low-FN {low_fn:.1} {of:?}");
        assert!(standard >= 60.0 && low_fp >= 50.0, "{name}");
    }
}
