//! What a model is: its signature, and its configuration in Triton's terms.

use aibuyer_domain::model::TensorInfo;
use aibuyer_loader::{Servable, serving_map::ModelEntry, stages::Batching};
use aibuyer_proto::inference::{
    self as pb,
    model_config::SchedulingChoice,
    model_metadata_response::TensorMetadata,
    model_version_policy::{Latest, PolicyChoice, Specific},
};
use tonic::Status;

use super::{OpenInference, infer::batching, pick};
use crate::status;

/// Triton's word for what runs the model.
const PLATFORM: &str = "onnxruntime_onnx";

impl OpenInference {
    /// A model's entry and the servable that a version leads to.
    fn model(&self, name: &str, version: &str) -> Result<(ModelEntry, Servable), Status> {
        let map = self.serving.load();
        let servable = map.resolve(name, &pick(version)?).map_err(|e| status::from_resolve(&e))?;
        Ok((map.model(name).cloned().unwrap_or_default(), servable))
    }

    pub(super) fn metadata(&self, name: String, version: &str) -> Result<pb::ModelMetadataResponse, Status> {
        let (model, servable) = self.model(&name, version)?;
        let ready = model.versions.iter().filter(|(_, entry)| entry.servable.is_some());
        let signature = &servable.signature;
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
        let signature = &servable.signature;
        // With batches the first dimension is theirs.
        let (batch, most) = match batching(&servable) {
            Batching::Rows => (1, self.max_rows),
            Batching::None => (0, 0),
        };
        let input = |tensor: &TensorInfo| pb::ModelInput {
            name: tensor.name.clone(),
            data_type: data_type(tensor).into(),
            dims: shape(tensor).skip(batch).collect(),
        };
        let output = |tensor: &TensorInfo| pb::ModelOutput {
            name: tensor.name.clone(),
            data_type: data_type(tensor).into(),
            dims: shape(tensor).skip(batch).collect(),
        };
        Ok(pb::ModelConfig {
            name,
            platform: PLATFORM.to_owned(),
            version_policy: Some(pb::ModelVersionPolicy { policy_choice: Some(policy(&model)) }),
            max_batch_size: i32::try_from(most).unwrap_or(i32::MAX),
            input: signature.inputs.iter().map(input).collect(),
            output: signature.outputs.iter().map(output).collect(),
            default_model_filename: "model.onnx".to_owned(),
            scheduling_choice: (most > 0).then_some(SchedulingChoice::DynamicBatching(pb::ModelDynamicBatching {})),
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
    match dtype {
        "bool" => "BOOL",
        "uint8" => "UINT8",
        "int8" => "INT8",
        "uint16" => "UINT16",
        "int16" => "INT16",
        "uint32" => "UINT32",
        "int32" => "INT32",
        "uint64" => "UINT64",
        "int64" => "INT64",
        "float32" => "FP32",
        "float16" => "FP16",
        "bfloat16" => "BF16",
        "string" => "BYTES",
        _ => "FP64",
    }
}

fn data_type(tensor: &TensorInfo) -> pb::DataType {
    match tensor.dtype.as_str() {
        "bool" => pb::DataType::TypeBool,
        "uint8" => pb::DataType::TypeUint8,
        "int8" => pb::DataType::TypeInt8,
        "uint16" => pb::DataType::TypeUint16,
        "int16" => pb::DataType::TypeInt16,
        "uint32" => pb::DataType::TypeUint32,
        "int32" => pb::DataType::TypeInt32,
        "uint64" => pb::DataType::TypeUint64,
        "int64" => pb::DataType::TypeInt64,
        "float32" => pb::DataType::TypeFp32,
        "float16" => pb::DataType::TypeFp16,
        "bfloat16" => pb::DataType::TypeBf16,
        "string" => pb::DataType::TypeString,
        _ => pb::DataType::TypeFp64,
    }
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
