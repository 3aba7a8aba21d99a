use super::*;
use crate::budget::family::Family;

fn rows(of: impl Fn(f64) -> f64, spends: impl IntoIterator<Item = f64>) -> Vec<Observation> {
    spends.into_iter().map(|spend| Observation { spend, response: of(spend) }).collect()
}

fn ramp(to: f64, count: u32) -> impl Iterator<Item = f64> {
    (1..=count).map(move |i| to * f64::from(i) / f64::from(count))
}

#[test]
fn exact_histories_give_their_curves_back() {
    let cases = [
        (Model::Hill, Family::Hill { beta: 120.0, kappa: 40.0, slope: 2.2 }),
        (Model::Hill, Family::Hill { beta: 9.0, kappa: 70.0, slope: 0.8 }),
        (Model::Log, Family::Log { beta: 30.0, kappa: 25.0 }),
        (Model::Exp, Family::Exp { beta: 80.0, kappa: 50.0 }),
        (Model::Power, Family::Power { beta: 3.0, alpha: 0.55 }),
        (Model::Linear, Family::Linear { beta: 0.4 }),
    ];
    for (model, family) in cases {
        let history = rows(|x| family.value(x), ramp(200.0, 40));
        let found = fit(model, &history).expect("a fit");
        assert!(found.r_squared > 1.0 - 1e-9, "{family:?} {found:?}");
        let apart = history.iter().map(|o| (model.value(&theta(&found.curve), o.spend) - o.response).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-5 * family.value(200.0), "{family:?} {found:?}");
        let unclear = |w: &Warning| !matches!(w, Warning::SaturationNotSeen);
        assert!(!found.warnings.iter().any(unclear), "{family:?} {found:?}");
    }
}

fn theta(curve: &Curve) -> [f64; 3] {
    match *curve {
        Curve::Hill { beta, kappa, slope } => [beta, kappa, slope].map(f64::ln),
        Curve::Log { beta, kappa } | Curve::Exp { beta, kappa } => [beta.ln(), kappa.ln(), 0.0],
        Curve::Power { beta, alpha } => [beta.ln(), alpha.ln(), 0.0],
        Curve::Linear { beta } => [beta.ln(), 0.0, 0.0],
        Curve::Mixture { .. } => panic!("nothing fits a mixture"),
    }
}

#[test]
fn gradients_agree_with_differences() {
    let at = [4.0, 3.0, 0.5];
    for model in [Model::Hill, Model::Log, Model::Exp, Model::Power, Model::Linear] {
        for (i, _) in model.parameters().iter().enumerate() {
            let mut moved = at;
            moved[i] += 1e-6;
            let difference = (model.value(&moved, 12.0) - model.value(&at, 12.0)) / 1e-6;
            let exact = model.gradient(&at, 12.0)[i];
            assert!((difference - exact).abs() <= 1e-4 * exact.abs().max(1e-3), "{model:?} {i}");
        }
    }
}

#[test]
fn a_few_wild_rows_are_named_and_hardly_move_the_curve() {
    let family = Family::Exp { beta: 100.0, kappa: 60.0 };
    let mut history = rows(|x| family.value(x) * (1.0 + 0.02 * (x * 12.9898).sin()), ramp(300.0, 60));
    for wild in [7, 31, 50] {
        history[wild].response = 400.0;
    }
    let found = fit(Model::Exp, &history).expect("a fit");
    let Curve::Exp { beta, kappa } = found.curve else { panic!("another family") };
    assert!((beta - 100.0).abs() < 2.0 && (kappa - 60.0).abs() < 3.0, "{found:?}");
    assert!([7, 31, 50].iter().all(|wild| found.outliers.contains(wild)), "{found:?}");
}

#[test]
fn warnings_say_what_a_history_cannot_tell() {
    let family = Family::Hill { beta: 100.0, kappa: 1000.0, slope: 1.0 };
    let noisy = |x: f64| family.value(x) * (1.0 + 0.1 * (x * 78.233).sin());
    let short = fit(Model::Hill, &rows(noisy, ramp(60.0, 30))).expect("a fit");
    assert!(short.warnings.contains(&Warning::SaturationNotSeen), "{short:?}");
    let unclear = |w: &Warning| matches!(w, Warning::ParameterUnclear { .. });
    assert!(short.warnings.iter().any(unclear), "{short:?}");
    let level = fit(Model::Exp, &rows(noisy, (0..20).map(|i| 50.0 + f64::from(i % 3)))).expect("a fit");
    assert!(level.warnings.contains(&Warning::SpendDoesNotVary), "{level:?}");
    let few = fit(Model::Log, &rows(noisy, [10.0, 500.0, 900.0])).expect("a fit");
    assert!(few.warnings.contains(&Warning::FewRows), "{few:?}");
}

#[test]
fn histories_without_a_curve_are_refused() {
    let row = |spend, response| Observation { spend, response };
    let cases = [
        (vec![row(1.0, 1.0), row(f64::NAN, 1.0)], "row 1: spend NaN"),
        (vec![row(1.0, -1.0)], "row 0: response -1"),
        (vec![row(1.0, f64::INFINITY)], "response inf"),
        (vec![row(0.0, 0.0), row(5.0, 2.0)], "1 history rows with spend cannot tell the curve's 2"),
        (vec![row(5.0, 0.0), row(7.0, 0.0)], "no history row has a response"),
        (vec![], "0 history rows"),
    ];
    for (history, expect) in cases {
        let error = fit(Model::Log, &history).expect_err(expect);
        assert!(error.to_string().contains(expect), "{expect}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
