//! Checks of a loaded version against the one that serves the same model: may it take over?
//!
//! Every request that is valid today must stay valid, every answer that callers read must still come, and about as
//! fast. What the version is by itself was checked before ([`stages`](crate::stages)).

mod signature;
mod window;

use std::time::Duration;

use aibuyer_domain::forecast::Prophet;

use crate::{batch::cost::CostModel, error::LoadError, servable::Servable};

/// What a version must fulfil to take over from the one that serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// A run may take this many times what it took the serving version; 0 allows any.
    pub max_slowdown: f64,
    /// Whether callers must be able to go on as before.
    pub signature: SignatureRule,
}

/// Whether callers must be able to go on as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRule {
    /// What is valid today stays valid.
    Compatible,
    /// Any signature may follow any other.
    Any,
}

/// Checks a loaded version against the one that serves. It takes microseconds: what is compared was learned at the load.
///
/// # Errors
/// [`LoadError::Incompatible`] or [`LoadError::Slower`].
pub fn check(candidate: &Servable, serving: &Servable, gate: &Gate) -> Result<(), LoadError> {
    let version = serving.id.version;
    if gate.signature == SignatureRule::Compatible {
        compatible(candidate, serving).map_err(|reason| LoadError::Incompatible { serving: version, reason })?;
    }
    // A forecast's time is the request's: it grows with the dates that are asked for.
    let (Some(candidate), Some(serving)) = (candidate.lanes(), serving.lanes()) else { return Ok(()) };
    match slower(&candidate.work, &serving.work, gate.max_slowdown) {
        None => Ok(()),
        Some(Slower { rows, took, serving_took, factor }) => {
            let allowed = gate.max_slowdown;
            Err(LoadError::Slower { serving: version, rows, took, serving_took, factor, allowed })
        }
    }
}

fn compatible(candidate: &Servable, serving: &Servable) -> Result<(), String> {
    match (candidate, serving) {
        (Servable::Ctr(candidate), Servable::Ctr(serving)) => signature::features(&candidate.spec, &serving.spec),
        (Servable::Plain(candidate), Servable::Plain(serving)) => {
            signature::tensors(&candidate.signature, &serving.signature)
        }
        (Servable::Forecast(candidate), Servable::Forecast(serving)) => columns(&candidate.model, &serving.model),
        (Servable::Window(candidate), Servable::Window(serving)) => window::spec(&candidate.spec, &serving.spec),
        (Servable::Forecast(_), Servable::Window(_)) => {
            Err("it is a Prophet model, which takes no context, and callers send one".into())
        }
        (Servable::Window(_), Servable::Forecast(_)) => {
            Err("it needs a context, the last values of the series, which callers of a Prophet model do not send"
                .into())
        }
        (Servable::Forecast(_) | Servable::Window(_), _) => {
            Err("it is a forecaster, the serving version is not".into())
        }
        (_, Servable::Forecast(_) | Servable::Window(_)) => {
            Err("it is not a forecaster, as the serving version is".into())
        }
        (Servable::Plain(_), Servable::Ctr(_)) => {
            Err("it has no feature_spec.json, so named features mean nothing to it".into())
        }
        (Servable::Ctr(_), Servable::Plain(_)) => {
            Err("it has a feature_spec.json, the serving version has none".into())
        }
    }
}

/// A forecaster must not need a column that callers do not send today.
fn columns(candidate: &Prophet, serving: &Prophet) -> Result<(), String> {
    let mut new = candidate.needed_columns().filter(|column| serving.needed_columns().all(|known| known != *column));
    match new.next() {
        None => Ok(()),
        Some(column) => Err(format!("it needs a column `{column}`, which callers do not send yet")),
    }
}

/// A batch that takes too long.
#[derive(Debug, PartialEq)]
struct Slower {
    rows: usize,
    took: Duration,
    serving_took: Duration,
    factor: f64,
}

/// The worse of the smallest and the largest batch, where that is slower than allowed. A version that runs each
/// request by itself needs as many runs as a batch has rows.
fn slower(candidate: &CostModel, serving: &CostModel, allowed: f64) -> Option<Slower> {
    if allowed <= 0.0 {
        return None;
    }
    let sizes = || candidate.measured().chain(serving.measured()).map(|(rows, _)| rows);
    let compared = [sizes().min()?, sizes().max()?].map(|rows| {
        let (took, serving_took) = (candidate.estimate(rows), serving.estimate(rows));
        // A clock that did not move says nothing.
        let factor = took.as_secs_f64() / serving_took.as_secs_f64().max(1e-9);
        Slower { rows, took, serving_took, factor }
    });
    compared.into_iter().filter(|s| s.factor > allowed).max_by(|a, b| a.factor.total_cmp(&b.factor))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cost(micros: &[(usize, u64)]) -> CostModel {
        let measured: Vec<_> = micros.iter().map(|(rows, us)| (*rows, Duration::from_micros(*us))).collect();
        CostModel::new(&measured).unwrap()
    }

    #[test]
    fn the_slowest_size_decides() {
        let serving = cost(&[(1, 50), (8, 100), (64, 800)]);
        type Case<'a> = (&'a [(usize, u64)], f64, Option<(usize, u64, u64)>);
        let cases: [Case; 8] = [
            (&[(1, 50), (64, 800)], 1.0, None),
            (&[(1, 60), (64, 1000)], 1.5, None),
            (&[(1, 101), (64, 800)], 2.0, Some((1, 101, 50))),
            (&[(1, 50), (64, 1601)], 2.0, Some((64, 1601, 800))),
            (&[(1, 200), (64, 8000)], 2.0, Some((64, 8000, 800))),
            // Sizes between are not looked at.
            (&[(1, 50), (8, 5000), (64, 800)], 2.0, None),
            // Each request by itself.
            (&[(1, 50)], 2.0, Some((64, 3200, 800))),
            (&[(1, 5000)], 0.0, None),
        ];
        for (candidate, allowed, expect) in cases {
            let found = slower(&cost(candidate), &serving, allowed);
            let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap();
            let found = found.map(|s| (s.rows, micros(s.took), micros(s.serving_took)));
            assert_eq!(found, expect, "{candidate:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = LoadError::Slower {
            serving: aibuyer_domain::model::Version::new(3).unwrap(),
            rows: 64,
            took: Duration::from_micros(1601),
            serving_took: Duration::from_micros(800),
            factor: 2.001,
            allowed: 1.5,
        };
        assert_eq!(
            error.to_string(),
            "a batch of 64 takes 1.6ms, 2.0 times the 800.0µs of version 3, which serves; loading.max_slowdown \
             allows 1.5: make the model smaller, or raise that (0 allows any)"
        );
        assert_eq!(error.check(), "latency");
    }
}
