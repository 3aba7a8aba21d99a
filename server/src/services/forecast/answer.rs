//! From a forecast to its message.

use aibuyer_domain::forecast::{Forecast, Method, Mode};
use aibuyer_proto::serving::v1 as pb;

use super::question::Question;

/// The message, without the model and without whether it was cached.
pub(super) fn message(forecast: Forecast, question: &Question) -> pb::ForecastResponse {
    let probabilities = &question.options.quantiles;
    let (method, samples) = match forecast.method {
        _ if probabilities.is_empty() => (pb::ForecastMethod::Unspecified, 0),
        Method::Exact => (pb::ForecastMethod::Exact, 0),
        Method::MonteCarlo { samples } => (pb::ForecastMethod::MonteCarlo, samples),
    };
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let components = forecast.components.into_iter().map(|component| {
        let certain = component.quantiles.iter().all(|column| *column == component.values);
        pb::ForecastComponent {
            name: component.name,
            multiplicative: component.mode == Mode::Multiplicative,
            quantiles: if certain { Vec::new() } else { quantiles(probabilities, component.quantiles) },
            values: component.values,
        }
    });
    pb::ForecastResponse {
        model: None,
        unix_micros: forecast.times.iter().map(|time| time.micros()).collect(),
        order: if question.ordered { forecast.order.iter().map(|row| narrow(*row)).collect() } else { Vec::new() },
        yhat: forecast.yhat,
        trend: forecast.trend,
        quantiles: quantiles(probabilities, forecast.quantiles),
        trend_quantiles: quantiles(probabilities, forecast.trend_quantiles),
        components: components.collect(),
        method: method.into(),
        samples: narrow(samples),
        cached: false,
    }
}

fn quantiles(probabilities: &[f64], columns: Vec<Vec<f64>>) -> Vec<pb::ForecastQuantile> {
    let pairs = probabilities.iter().zip(columns);
    pairs.map(|(probability, values)| pb::ForecastQuantile { probability: *probability, values }).collect()
}
