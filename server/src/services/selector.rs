//! Which version a request asks for.

use std::sync::Arc;

use aibuyer_domain::model::{NameError, Pick, Version};
use aibuyer_loader::{ForecastServable, Servable, WindowServable, serving_map::Serving};
use aibuyer_proto::serving::v1 as pb;
use tonic::Status;

use crate::status;

/// The servable that answers.
///
/// # Errors
/// INVALID_ARGUMENT for a selector that names nothing, NOT_FOUND and UNAVAILABLE as the serving map has it.
pub(crate) fn resolve(serving: &Serving, selector: Option<&pb::ModelSelector>) -> Result<Servable, Status> {
    let map = serving.load();
    let selector = selector.filter(|s| !s.name.is_empty()).ok_or_else(|| {
        let names: Vec<&str> = map.models.keys().map(|n| n.as_str()).collect();
        status::invalid_field("model.name", format!("is required; there are: {}", names.join(", ")))
    })?;
    let pick = match &selector.pick {
        None => Pick::Default,
        Some(pb::model_selector::Pick::Alias(alias)) => {
            Pick::Alias(alias.parse().map_err(|e: NameError| status::invalid_field("model.alias", e.to_string()))?)
        }
        Some(pb::model_selector::Pick::Version(number)) => Pick::Version(
            Version::new(*number).ok_or_else(|| status::invalid_field("model.version", "must be 1 or greater"))?,
        ),
    };
    map.resolve(&selector.name, &pick).map_err(|e| status::from_resolve(&e))
}

/// What can forecast.
pub(crate) enum Forecaster {
    Prophet(Arc<ForecastServable>),
    Window(Arc<WindowServable>),
}

/// The forecaster that answers.
///
/// # Errors
/// As [`resolve`]; INVALID_ARGUMENT for a model that forecasts nothing.
pub(crate) fn forecaster(serving: &Serving, selector: Option<&pb::ModelSelector>) -> Result<Forecaster, Status> {
    let service = match resolve(serving, selector)? {
        Servable::Forecast(servable) => return Ok(Forecaster::Prophet(servable)),
        Servable::Window(servable) => return Ok(Forecaster::Window(servable)),
        Servable::Ctr(_) => "aibuyer.serving.v1.CtrService",
        Servable::Plain(_) => "inference.GRPCInferenceService",
    };
    let name = selector.map_or("", |selector| &selector.name);
    Err(status::invalid_field("model.name", format!("{name:?} is not a forecaster: call {service}")))
}
