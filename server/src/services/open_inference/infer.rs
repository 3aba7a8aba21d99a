//! Running a model on the tensors of one request, by a call or on a stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::{ctr::Rows, model::TensorInfo};
use aibuyer_loader::CtrServable;
use aibuyer_proto::inference::{
    self as pb, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor,
};
use tonic::Status;

use super::{OpenInference, model::datatype, pick};
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
        let attempt = self.metrics.statistics().begin(&servable, started);
        let deadline = deadline::of_message(timeout(&request)?, started, self.default_deadline)?.min(latest);
        let rows = self.rows(&servable, &request)?;
        let wanted = wanted(&servable, &request)?;
        let len = rows.len;
        let encoded = Instant::now();
        let scores = servable.score(rows, encoded, deadline).await.map_err(|e| status::from_score(&e))?;
        let scored = Instant::now();
        let raw = !request.raw_input_contents.is_empty();
        let mut response = pb::ModelInferResponse {
            model_name: request.model_name,
            model_version: servable.id.version.to_string(),
            id: request.id,
            ..Default::default()
        };
        for name in wanted {
            let values = match name.as_str() {
                "logit" => scores.outputs.logits.clone(),
                _ => scores.outputs.variances.clone().unwrap_or_default(),
            };
            let mut output = InferOutputTensor {
                name,
                datatype: "FP32".to_owned(),
                shape: vec![i64::try_from(len).unwrap_or(i64::MAX)],
                ..Default::default()
            };
            if raw {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                response.raw_output_contents.push(bytes.into());
            } else {
                output.contents = Some(pb::InferTensorContents { fp32_contents: values, ..Default::default() });
            }
            response.outputs.push(output);
        }
        self.metrics.answered(attempt, &servable, encoded - started, &scores, scored.elapsed());
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

/// Names of the outputs that the request wants.
fn wanted(servable: &CtrServable, request: &pb::ModelInferRequest) -> Result<Vec<String>, Status> {
    let outputs: Vec<String> = servable.spec.signature().outputs.into_iter().map(|t| t.name).collect();
    if request.outputs.is_empty() {
        return Ok(outputs);
    }
    let asked = request.outputs.iter().map(|o| o.name.clone());
    asked
        .map(|name| match outputs.contains(&name) {
            true => Ok(name),
            false => Err(status::invalid_field(
                "outputs",
                format!("the model has no output {name:?}; it has {}", outputs.join(", ")),
            )),
        })
        .collect()
}

impl OpenInference {
    /// The request's tensors as rows, with every value checked.
    fn rows(&self, servable: &CtrServable, request: &pb::ModelInferRequest) -> Result<Rows, Status> {
        let signature = servable.spec.signature();
        let raw = &request.raw_input_contents;
        if !raw.is_empty() && raw.len() != request.inputs.len() {
            let reason = format!("has {} tensors for {} inputs", raw.len(), request.inputs.len());
            return Err(status::invalid_field("raw_input_contents", reason));
        }
        let mut rows = Rows::default();
        for declared in &signature.inputs {
            let mut given = request.inputs.iter().enumerate().filter(|(_, input)| input.name == declared.name);
            let Some((i, input)) = given.next() else {
                return Err(status::invalid_field("inputs", format!("lacks {declared}")));
            };
            if given.next().is_some() {
                return Err(status::invalid_field("inputs", format!("has {:?} twice", declared.name)));
            }
            let len = self.length(declared, input)?;
            if rows.len != 0 && rows.len != len {
                let reason = format!("{:?} has {len} rows, another input {}", declared.name, rows.len);
                return Err(status::invalid_field("inputs", reason));
            }
            rows.len = len;
            let contents = input.contents.as_ref();
            let raw = raw.get(i);
            if declared.dtype == "int64" {
                let typed = contents.map(|c| c.int64_contents.as_slice());
                rows.ids = values(declared, len, raw, typed, i64::from_le_bytes)?;
            } else {
                let typed = contents.map(|c| c.fp32_contents.as_slice());
                rows.dense = values(declared, len, raw, typed, f32::from_le_bytes)?;
            }
        }
        if let Some(extra) = request.inputs.iter().find(|i| signature.inputs.iter().all(|d| d.name != i.name)) {
            let inputs: Vec<String> = signature.inputs.iter().map(ToString::to_string).collect();
            let reason = format!("the model has no input {:?}; it has {}", extra.name, inputs.join(", "));
            return Err(status::invalid_field("inputs", reason));
        }
        match servable.assembler.check(&rows) {
            None => Ok(rows),
            Some(bad) => Err(status::invalid_field(&format!("inputs[{:?}][{}]", bad.field, bad.candidate), bad.reason)),
        }
    }

    /// Rows of an input, whose type and shape must be the model's.
    fn length(&self, declared: &TensorInfo, input: &InferInputTensor) -> Result<usize, Status> {
        let fail = |reason: String| Err(status::invalid_field("inputs", format!("{:?} {reason}", declared.name)));
        if input.datatype != datatype(&declared.dtype) {
            return fail(format!("is {}, must be {}", input.datatype, datatype(&declared.dtype)));
        }
        let width = declared.shape.get(1).copied().flatten().unwrap_or(1);
        match input.shape[..] {
            [len, w] if usize::try_from(w) == Ok(width) => match usize::try_from(len) {
                Ok(len) if (1..=self.max_rows).contains(&len) => Ok(len),
                _ => fail(format!("has {len} rows, must have 1 to {} (limits.max_candidates)", self.max_rows)),
            },
            _ => fail(format!("has shape {:?}, must have [rows, {width}]", input.shape)),
        }
    }
}

/// An input's values, raw or typed.
fn values<T: Copy, const N: usize>(
    declared: &TensorInfo,
    len: usize,
    raw: Option<&prost::bytes::Bytes>,
    typed: Option<&[T]>,
    read: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Status> {
    let needed = len * declared.shape.get(1).copied().flatten().unwrap_or(1);
    let found: Vec<T> = match raw {
        Some(bytes) if bytes.len() == needed * N => bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect(),
        Some(bytes) => {
            let reason = format!("{:?} has {} bytes, needs {}", declared.name, bytes.len(), needed * N);
            return Err(status::invalid_field("raw_input_contents", reason));
        }
        None => typed.unwrap_or_default().to_vec(),
    };
    if found.len() != needed {
        let reason = format!("{:?} has {} values, its shape needs {needed}", declared.name, found.len());
        return Err(status::invalid_field("inputs", reason));
    }
    Ok(found)
}
