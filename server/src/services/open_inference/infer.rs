//! Running a model on the tensors of one request, by a call or on a stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::model::Signature;
use aibuyer_loader::{
    Servable,
    batch::{Request, queue::Priority},
    requests::Attempt,
    stages::Batching,
    tensor::Tensor,
};
use aibuyer_proto::inference::{self as pb, infer_parameter::ParameterChoice};
use tonic::Status;

use super::{OpenInference, pick, tensors};
use crate::{layers::deadline, services::streams::Answer, status};

/// The stream's method, as metrics name it.
pub(super) const STREAM_METHOD: &str = "inference.GRPCInferenceService/ModelStreamInfer";

impl OpenInference {
    /// Runs the model on a request that was taken up at `started` and whose call ends at `latest`.
    pub(super) async fn infer(
        &self,
        request: pb::ModelInferRequest,
        started: Instant,
        latest: Instant,
    ) -> Result<pb::ModelInferResponse, Status> {
        let resolved = self.serving.load().resolve(&request.model_name, &pick(&request.model_version)?);
        let servable = resolved.map_err(|e| status::from_resolve(&e))?;
        let batcher = &servable.lanes().ok_or_else(no_tensors)?.batcher;
        let attempt = Attempt::new(servable.clone(), started);
        let deadline = deadline::of_message(timeout(&request)?, started, self.default_deadline)?.min(latest);
        let priority = priority(&request)?;
        let signature = &servable.signature;
        let (inputs, rows) = tensors::inputs(signature, batching(&servable), self.max_rows, &request)?;
        let inputs = checked(&servable, inputs)?;
        let wanted = wanted(signature, &request)?;
        let encoded = Instant::now();
        let scores = batcher.score(Request { inputs, rows, priority, deadline }, encoded).await;
        let mut scores = scores.map_err(|e| status::from_score(&e))?;
        let scored = Instant::now();
        let raw = !request.raw_input_contents.is_empty();
        let mut response = pb::ModelInferResponse {
            model_name: request.model_name,
            model_version: servable.id.version.to_string(),
            id: request.id,
            ..Default::default()
        };
        let mut outputs: Vec<Option<Tensor>> = std::mem::take(&mut scores.outputs).into_iter().map(Some).collect();
        let raw = raw || wanted.iter().any(|place| !tensors::has_field(&signature.outputs[*place].dtype));
        for place in wanted {
            let Some(tensor) = outputs.get_mut(place).and_then(Option::take) else { continue };
            let (output, bytes) = tensors::output(signature.outputs[place].name.clone(), tensor, raw);
            response.outputs.push(output);
            response.raw_output_contents.extend(bytes);
        }
        attempt.answered([encoded - started, scores.queue, scores.compute, scored.elapsed()]);
        Ok(response)
    }

    /// The answer to a request of a stream.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: pb::ModelInferRequest,
        started: Instant,
    ) -> Answer<pb::ModelStreamInferResponse> {
        let id = request.id.clone();
        match self.infer(request, started, started + self.default_deadline).await {
            Ok(mut response) => {
                let last = pb::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
                response.parameters.insert("triton_final_response".to_owned(), last);
                let message =
                    pb::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) };
                Answer { message, code: status::OK }
            }
            Err(error) => {
                let infer_response = Some(pb::ModelInferResponse { id, ..Default::default() });
                let error_message = error.message().to_owned();
                let message = pb::ModelStreamInferResponse { error_message, infer_response };
                Answer { message, code: status::name_of(&error) }
            }
        }
    }
}

/// The request's own timeout, as Triton's clients send it.
fn timeout(request: &pb::ModelInferRequest) -> Result<Option<Duration>, Status> {
    let micros = match request.parameters.get("timeout").map(|p| &p.parameter_choice) {
        None => return Ok(None),
        Some(Some(ParameterChoice::Int64Param(n))) => u64::try_from(*n).ok(),
        Some(Some(ParameterChoice::Uint64Param(n))) => Some(*n),
        Some(_) => None,
    };
    match micros {
        Some(0) => Ok(None),
        Some(micros) => Ok(Some(Duration::from_micros(micros))),
        None => {
            let reason = "must be a whole number of microseconds, 0 or more, as int64_param or uint64_param";
            Err(status::invalid_field("parameters[\"timeout\"]", reason))
        }
    }
}

/// The request's rank, as Triton's clients send it: 0 is the model's own, 1 the highest; here 2 is the usual one.
fn priority(request: &pb::ModelInferRequest) -> Result<Priority, Status> {
    let number = match request.parameters.get("priority").map(|p| &p.parameter_choice) {
        None => return Ok(Priority::Normal),
        Some(Some(ParameterChoice::Int64Param(n))) => u64::try_from(*n).ok(),
        Some(Some(ParameterChoice::Uint64Param(n))) => Some(*n),
        Some(_) => None,
    };
    match number {
        Some(0 | 2) => Ok(Priority::Normal),
        Some(1) => Ok(Priority::High),
        Some(3) => Ok(Priority::Low),
        _ => Err(status::invalid_field("parameters[\"priority\"]", "must be 0 (default), 1 (high), 2 or 3 (low)")),
    }
}

/// Whether requests to the model may share a run.
pub(super) fn batching(servable: &Servable) -> Batching {
    match servable {
        Servable::Ctr(_) | Servable::Window(_) => Batching::Rows,
        Servable::Plain(plain) => plain.batching,
        Servable::Forecast(_) => Batching::None,
    }
}

fn no_tensors() -> Status {
    status::invalid_field(
        "model_name",
        "is a Prophet model, which has no tensors: call aibuyer.serving.v1.ForecastService",
    )
}

/// A CTR model's inputs with every id and number checked, so that a bad one harms nobody else; those of others as
/// they are.
fn checked(servable: &Servable, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Status> {
    let Servable::Ctr(ctr) = servable else { return Ok(inputs) };
    let rows = ctr.rows(inputs);
    match ctr.assembler.check(&rows) {
        None => Ok(ctr.tensors(rows)),
        Some(bad) => Err(status::invalid_field(&format!("inputs[{:?}][{}]", bad.field, bad.candidate), bad.reason)),
    }
}

/// Places of the outputs that the request wants.
fn wanted(signature: &Signature, request: &pb::ModelInferRequest) -> Result<Vec<usize>, Status> {
    if request.outputs.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let asked = request.outputs.iter().map(|output| {
        signature.outputs.iter().position(|t| t.name == output.name).ok_or_else(|| {
            let names: Vec<&str> = signature.outputs.iter().map(|t| t.name.as_str()).collect();
            let reason = format!("the model has no output {:?}; it has {}", output.name, names.join(", "));
            status::invalid_field("outputs", reason)
        })
    });
    asked.collect()
}
