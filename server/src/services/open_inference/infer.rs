//! `inference.GRPCInferenceService`: the Open Inference Protocol, version 2, for clients that know tensors.
//!
//! A CTR model takes `ids` and `dense` and gives `logit` and `logit_variance`, as its file has them; rates and
//! intervals are `CtrService`'s. A request with one bad value fails as a whole, by itself.

use std::time::{Duration, Instant};

use aibuyer_domain::{
    ctr::Rows,
    model::{Pick, TensorInfo},
};
use aibuyer_loader::{CtrServable, serving_map::Serving};
use aibuyer_proto::inference::{
    self as pb, grpc_inference_service_server::GrpcInferenceService, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
};
use tonic::{Request, Response, Status};

use crate::{layers::deadline::deadline, readiness::Readiness, status};

/// Speaks the protocol.
#[derive(Debug)]
pub(crate) struct OpenInference {
    pub(crate) serving: Serving,
    pub(crate) readiness: Readiness,
    pub(crate) max_rows: usize,
    pub(crate) default_deadline: Duration,
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInference {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Result<Response<pb::ServerLiveResponse>, Status> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        let ready = self.readiness.look(&self.serving.load());
        Ok(Response::new(pb::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        let pb::ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.serving.load().resolve(&name, &pick(&version)?).is_ok();
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: "aibuyer".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec![],
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        let pb::ModelMetadataRequest { name, version } = request.into_inner();
        let map = self.serving.load();
        let servable = map.resolve(&name, &pick(&version)?).map_err(|e| status::from_resolve(&e))?;
        let versions = map.model(&name).map(|m| &m.versions);
        let ready = versions.into_iter().flatten().filter(|(_, entry)| entry.servable.is_some());
        let signature = servable.spec.signature();
        Ok(Response::new(pb::ModelMetadataResponse {
            name,
            versions: ready.map(|(version, _)| version.to_string()).collect(),
            platform: "onnxruntime_onnx".to_owned(),
            inputs: signature.inputs.iter().map(metadata).collect(),
            outputs: signature.outputs.iter().map(metadata).collect(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), self.default_deadline)?;
        let request = request.into_inner();
        let resolved = self.serving.load().resolve(&request.model_name, &pick(&request.model_version)?);
        let servable = resolved.map_err(|e| status::from_resolve(&e))?;
        let rows = self.rows(&servable, &request)?;
        let wanted = wanted(&servable, &request)?;
        let len = rows.len;
        let scores = servable.score(rows, Instant::now(), deadline).await.map_err(|e| status::from_score(&e))?;
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
        Ok(Response::new(response))
    }
}

/// A version number or an alias; empty is the default.
fn pick(version: &str) -> Result<Pick, Status> {
    if version.is_empty() {
        return Ok(Pick::Default);
    }
    match (version.parse(), version.parse()) {
        (Ok(number), _) => Ok(Pick::Version(number)),
        (_, Ok(alias)) => Ok(Pick::Alias(alias)),
        (_, Err(error)) => Err(status::invalid_field("model_version", error.to_string())),
    }
}

/// The protocol's name of an element type.
fn datatype(dtype: &str) -> &'static str {
    if dtype == "int64" { "INT64" } else { "FP32" }
}

fn metadata(tensor: &TensorInfo) -> TensorMetadata {
    let size = |d: &Option<usize>| d.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    TensorMetadata {
        name: tensor.name.clone(),
        datatype: datatype(&tensor.dtype).to_owned(),
        shape: tensor.shape.iter().map(size).collect(),
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
