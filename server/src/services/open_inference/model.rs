//! What a model is: its signature, and its configuration in Triton's terms.

use std::sync::Arc;

use aibuyer_domain::model::TensorInfo;
use aibuyer_loader::{CtrServable, serving_map::ModelEntry};
use aibuyer_proto::inference::{
    self as pb,
    model_config::SchedulingChoice,
    model_metadata_response::TensorMetadata,
    model_version_policy::{Latest, PolicyChoice, Specific},
};
use tonic::Status;

use super::{OpenInference, pick};
use crate::status;

/// Triton's word for what runs the model.
const PLATFORM: &str = "onnxruntime_onnx";

impl OpenInference {
    /// A model's entry and the servable that a version leads to.
    fn model(&self, name: &str, version: &str) -> Result<(ModelEntry, Arc<CtrServable>), Status> {
        let map = self.serving.load();
        let servable = map.resolve(name, &pick(version)?).map_err(|e| status::from_resolve(&e))?;
        Ok((map.model(name).cloned().unwrap_or_default(), servable))
    }

    pub(super) fn metadata(&self, name: String, version: &str) -> Result<pb::ModelMetadataResponse, Status> {
        let (model, servable) = self.model(&name, version)?;
        let ready = model.versions.iter().filter(|(_, entry)| entry.servable.is_some());
        let signature = servable.spec.signature();
        Ok(pb::ModelMetadataResponse {
            name,
            versions: ready.map(|(version, _)| version.to_string()).collect(),
            platform: PLATFORM.to_owned(),
            inputs: signature.inputs.iter().map(metadata).collect(),
            outputs: signature.outputs.iter().map(metadata).collect(),
        })
    }

    pub(super) fn config(&self, name: String, version: &str) -> Result<pb::ModelConfig, Status> {
        let (model, servable) = self.model(&name, version)?;
        let signature = servable.spec.signature();
        let input = |tensor: &TensorInfo| pb::ModelInput {
            name: tensor.name.clone(),
            data_type: data_type(tensor).into(),
            dims: shape(tensor).skip(1).collect(),
        };
        let output = |tensor: &TensorInfo| pb::ModelOutput {
            name: tensor.name.clone(),
            data_type: data_type(tensor).into(),
            dims: shape(tensor).skip(1).collect(),
        };
        Ok(pb::ModelConfig {
            name,
            platform: PLATFORM.to_owned(),
            version_policy: Some(pb::ModelVersionPolicy { policy_choice: Some(policy(&model)) }),
            max_batch_size: i32::try_from(self.max_rows).unwrap_or(i32::MAX),
            input: signature.inputs.iter().map(input).collect(),
            output: signature.outputs.iter().map(output).collect(),
            default_model_filename: "model.onnx".to_owned(),
            scheduling_choice: Some(SchedulingChoice::DynamicBatching(pb::ModelDynamicBatching {})),
            backend: "onnxruntime".to_owned(),
            model_transaction_policy: Some(pb::ModelTransactionPolicy { decoupled: false }),
        })
    }
}

/// Which versions serve: those that aliases name, else the greatest.
fn policy(model: &ModelEntry) -> PolicyChoice {
    if model.wanted.aliases.is_empty() {
        return PolicyChoice::Latest(Latest { num_versions: 1 });
    }
    let mut versions: Vec<i64> =
        model.wanted.aliases.values().map(|v| i64::try_from(v.get()).unwrap_or(i64::MAX)).collect();
    versions.sort_unstable();
    versions.dedup();
    PolicyChoice::Specific(Specific { versions })
}

/// The protocol's name of an element type.
pub(super) fn datatype(dtype: &str) -> &'static str {
    if dtype == "int64" { "INT64" } else { "FP32" }
}

fn data_type(tensor: &TensorInfo) -> pb::DataType {
    if tensor.dtype == "int64" { pb::DataType::TypeInt64 } else { pb::DataType::TypeFp32 }
}

/// A tensor's shape; -1 is the batch, which is first.
fn shape(tensor: &TensorInfo) -> impl Iterator<Item = i64> {
    tensor.shape.iter().map(|d| d.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)))
}

fn metadata(tensor: &TensorInfo) -> TensorMetadata {
    TensorMetadata {
        name: tensor.name.clone(),
        datatype: datatype(&tensor.dtype).to_owned(),
        shape: shape(tensor).collect(),
    }
}
