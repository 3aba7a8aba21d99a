//! Checking a forecaster: a Prophet model as `mlflow.prophet` logs it.

use aibuyer_domain::{
    forecast::{Frame, Frequency, Options, Prophet},
    model::ServableId,
};
use sha2::{Digest as _, Sha256};

use super::files::{Files, text};
use crate::error::LoadError;

/// A forecaster that can answer.
#[derive(Debug)]
pub struct Forecaster {
    /// Which.
    pub id: ServableId,
    /// The fitted model.
    pub model: Prophet,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// Bytes of its files.
    pub bytes: u64,
}

/// Days that a model must be able to forecast before it serves.
const TRIED: usize = 7;

impl Forecaster {
    /// Reads the model file and makes it answer for the week after its history.
    pub(super) fn verify(id: ServableId, files: &mut Files, file: &str) -> Result<Self, LoadError> {
        files.check_inside(file).map_err(|reason| LoadError::Content { file: file.to_owned(), reason })?;
        let content = files.read(file)?;
        let digest = Sha256::digest(&content).into();
        let refuse = |reason: String| LoadError::Content { file: file.to_owned(), reason };
        let model = Prophet::parse(&text(file, content)?).map_err(|error| refuse(error.to_string()))?;
        try_out(&model)?;
        Ok(Self { id, model, digest, bytes: files.bytes })
    }
}

/// A model that needs columns beside its dates cannot be tried without them.
fn try_out(model: &Prophet) -> Result<(), LoadError> {
    const WHAT: &str = "the week after its history";
    let (Some(last), None) = (model.last_date(), model.needed_columns().next()) else { return Ok(()) };
    let fail = |reason: String| LoadError::WarmUp { what: WHAT.to_owned(), reason };
    let daily = Frequency::parse("D").and_then(|daily| daily.dates_after(last, TRIED));
    let frame = Frame::new(daily.map_err(|error| fail(error.to_string()))?);
    let forecast = model.forecast(&frame, &Options::interval(0.8)).map_err(|error| fail(error.to_string()))?;
    let columns = forecast.quantiles.iter().chain([&forecast.yhat]);
    match columns.flatten().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(fail(format!("it forecasts {value}: was it fitted to the end?"))),
    }
}
