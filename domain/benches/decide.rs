//! Timings of the budget optimiser.

#![allow(clippy::unwrap_used)]

use aibuyer_domain::budget::{Campaign, Curve, Effort, Problem, Schedule, SpendBounds, optimise};
use divan::Bencher;

fn main() {
    divan::main();
}

/// Reproducible numbers in [0, 1): a Weyl sequence.
fn uniform(seed: u32) -> impl FnMut() -> f64 {
    let mut i = seed;
    move || {
        i += 1;
        (f64::from(i) * 0.618_033_988_749_895).fract()
    }
}

/// Campaigns of all families whose budget is about a third of what saturates them; `slopes` are the Hill curves'.
fn problem(count: usize, slopes: (f64, f64), only_hill: bool) -> Problem {
    let mut u = uniform(7);
    let campaigns: Vec<Campaign> = (0..count)
        .map(|i| {
            let (beta, kappa) = (50.0 + 350.0 * u(), 20.0 + 350.0 * u());
            let curve = match i % 4 {
                0 if !only_hill => Curve::Log { beta, kappa },
                1 if !only_hill => Curve::Exp { beta, kappa },
                2 if !only_hill => Curve::Power { beta: beta / 20.0, alpha: 0.3 + 0.4 * u() },
                _ => Curve::Hill { beta, kappa, slope: slopes.0 + (slopes.1 - slopes.0) * u() },
            };
            let bounds = SpendBounds { min: 20.0 * u(), max: Some(kappa * (1.0 + 4.0 * u())) };
            Campaign { id: format!("c{i}"), curve, schedule: Schedule::Whole(bounds) }
        })
        .collect();
    Problem::new(90.0 * f64::from(u32::try_from(count).unwrap()), campaigns).unwrap()
}

#[divan::bench(args = [1_000, 10_000])]
fn concave_campaigns(bencher: Bencher, count: usize) {
    let problem = problem(count, (0.4, 1.0), false);
    bencher.bench_local(|| optimise(&problem, Effort::default()));
}

#[divan::bench(args = [1_000, 10_000])]
fn concave_hill_campaigns(bencher: Bencher, count: usize) {
    let problem = problem(count, (0.4, 0.99), true);
    bencher.bench_local(|| optimise(&problem, Effort::default()));
}

/// To a gap of 1e-6: that of a plan in which one campaign of many is rounded.
#[divan::bench(args = [12, 100, 1_000, 10_000], sample_count = 5, sample_size = 1)]
fn s_shaped_campaigns(bencher: Bencher, count: usize) {
    let problem = problem(count, (1.5, 4.0), true);
    bencher.bench_local(|| optimise(&problem, Effort { gap: 1e-6, ..Effort::default() }));
}

/// To the default gap.
#[divan::bench(args = [12, 100, 1_000], sample_count = 5, sample_size = 1)]
fn s_shaped_campaigns_to_the_end(bencher: Bencher, count: usize) {
    let problem = problem(count, (1.5, 4.0), true);
    bencher.bench_local(|| optimise(&problem, Effort::default()));
}
