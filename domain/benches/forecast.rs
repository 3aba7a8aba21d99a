//! Timings of forecasts with interval: `cargo bench -p aibuyer-domain --bench forecast`.
//!
//! `AIBUYER_PROPHET_MODEL` names another model file to time.

#![allow(clippy::unwrap_used)]

use std::{env, fs, path::PathBuf};

use aibuyer_domain::forecast::{Frame, Frequency, Options, Prophet};
use divan::Bencher;

fn main() {
    divan::main();
}

fn text() -> String {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/prophet/cases/daily/model.json");
    fs::read_to_string(env::var_os("AIBUYER_PROPHET_MODEL").map_or(own, PathBuf::from)).unwrap()
}

fn daily(days: usize) -> (Prophet, Frame) {
    let model = Prophet::parse(&text()).unwrap();
    let dates = Frequency::parse("D").unwrap().dates_after(model.last_date().unwrap(), days).unwrap();
    (model, Frame::new(dates))
}

#[divan::bench(args = [30, 365])]
fn points(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    bencher.bench(|| model.forecast(&frame, &Options::default()).unwrap());
}

#[divan::bench(args = [30, 365])]
fn interval(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    bencher.bench(|| model.forecast(&frame, &Options::interval(0.8)).unwrap());
}

#[divan::bench(args = [30, 365])]
fn nine_quantiles(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    let quantiles = (1..10).map(|tenth| f64::from(tenth) / 10.0).collect();
    let options = Options { quantiles, ..Options::default() };
    bencher.bench(|| model.forecast(&frame, &options).unwrap());
}

#[divan::bench(args = [30, 365])]
fn interval_and_trend_interval(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    let options = Options { trend: true, ..Options::interval(0.8) };
    bencher.bench(|| model.forecast(&frame, &options).unwrap());
}

#[divan::bench(args = [30, 365])]
fn interval_and_components(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    let options = Options { components: true, ..Options::interval(0.8) };
    bencher.bench(|| model.forecast(&frame, &options).unwrap());
}

#[divan::bench(args = [1, 30])]
fn laws_and_p_values(bencher: Bencher, days: usize) {
    let (model, frame) = daily(days);
    bencher.bench(|| {
        let laws = model.laws(&frame, &Options::default()).unwrap();
        laws.iter().map(|(_, law)| law.p_value(law.centre() * 1.1)).sum::<f64>()
    });
}

#[divan::bench]
fn load(bencher: Bencher) {
    let text = text();
    bencher.bench(|| Prophet::parse(&text).unwrap());
}
