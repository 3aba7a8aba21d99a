//! Files of requests, as ghz has them: `.json` (an object, or an array of them, in protobuf's JSON form) and any other
//! name for binary (messages one after the other, each after its length).

use std::{fs, path::Path};

use prost::bytes::Buf;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use serde_json::Value as Json;

use super::{Pool, RequestError};

/// Reads the requests that `path` holds for `method`.
///
/// # Errors
/// The file cannot be read, or a request in it is not one; its place is named.
pub fn read(path: &Path, method: &str) -> Result<Pool, RequestError> {
    let kind = input_of(method)?;
    let bytes = fs::read(path).map_err(|e| RequestError::file(path, &e))?;
    let is_json = path.extension().is_some_and(|e| e == "json");
    let messages = if is_json { from_json(&bytes, &kind) } else { from_binary(&bytes, &kind) };
    let messages = messages.map_err(|reason| RequestError::file(path, &reason))?;
    if messages.is_empty() {
        return Err(RequestError::file(path, &"no requests in it"));
    }
    let rows: Option<u32> = messages.iter().map(candidates).sum();
    let rows = rows.map(|sum| f64::from(sum) / messages.len() as f64);
    Ok(Pool::new(method, messages.iter().map(prost_reflect::prost::Message::encode_to_vec), rows))
}

/// Writes a pool's requests as a binary file that ghz and [`read`] take.
///
/// # Errors
/// The file cannot be written.
pub fn write(pool: &Pool, path: &Path) -> Result<(), RequestError> {
    let mut bytes = Vec::new();
    for n in 0..pool.len() {
        let message = pool.body(n).split_off(5);
        // Written to memory, which does not fail.
        prost::encoding::encode_varint(message.len() as u64, &mut bytes);
        bytes.extend_from_slice(&message);
    }
    fs::write(path, bytes).map_err(|e| RequestError::file(path, &e))
}

fn input_of(method: &str) -> Result<MessageDescriptor, RequestError> {
    let unknown = || RequestError::Method(method.to_owned());
    let pool = DescriptorPool::decode(aibuyer_proto::DESCRIPTORS).map_err(|_| unknown())?;
    let (service, name) = method.split_once('/').ok_or_else(unknown)?;
    let service = pool.get_service_by_name(service).ok_or_else(unknown)?;
    service.methods().find(|m| m.name() == name).map(|m| m.input()).ok_or_else(unknown)
}

fn from_json(text: &[u8], kind: &MessageDescriptor) -> Result<Vec<DynamicMessage>, String> {
    let document: Json = serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))?;
    let requests = if let Json::Array(requests) = document { requests } else { vec![document] };
    let parse = |(n, request)| {
        DynamicMessage::deserialize(kind.clone(), request)
            .map_err(|e| format!("request {n} is not a {}: {e}", kind.full_name()))
    };
    requests.into_iter().enumerate().map(parse).collect()
}

fn from_binary(mut bytes: &[u8], kind: &MessageDescriptor) -> Result<Vec<DynamicMessage>, String> {
    let mut messages = Vec::new();
    while bytes.has_remaining() {
        let n = messages.len();
        let failed = |reason: &dyn std::fmt::Display| format!("request {n} is not a {}: {reason}", kind.full_name());
        let length = prost::decode_length_delimiter(&mut bytes).map_err(|e| failed(&e))?;
        let message = bytes.get(..length).ok_or_else(|| failed(&"the file ends within it"))?;
        messages.push(DynamicMessage::decode(kind.clone(), message).map_err(|e| failed(&e))?);
        bytes.advance(length);
    }
    Ok(messages)
}

/// How many candidates a request says it has.
fn candidates(message: &DynamicMessage) -> Option<u32> {
    let count = message.get_field_by_name("candidate_count")?;
    if let Value::U32(count) = *count { Some(count).filter(|c| *c > 0) } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::requests::PREDICT_CTR;
    use prost::Message as _;

    const TWO: &str = r#"[
        {"model": {"name": "m"}, "candidateCount": 1, "candidates": [{"name": "n", "int64s": {"values": ["40"]}}]},
        {"model": {"name": "m", "version": "3"}, "candidate_count": 3}
    ]"#;

    fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn json_and_binary_hold_the_same_requests() {
        let (folder, path) = file("two.json", TWO.as_bytes());
        let json = read(&path, PREDICT_CTR).unwrap();
        assert_eq!((json.len(), json.rows()), (2, Some(2.0)));
        let binary = folder.path().join("two.bin");
        write(&json, &binary).unwrap();
        let again = read(&binary, PREDICT_CTR).unwrap();
        assert_eq!((again.body(0), again.body(1), again.body(2)), (json.body(0), json.body(1), json.body(0)));
        let decoded = aibuyer_proto::serving::v1::PredictCtrRequest::decode(&json.body(1)[5..]).unwrap();
        assert_eq!(decoded.candidate_count, Some(3));
    }

    #[test]
    fn faults_are_named() {
        for (name, content, reason) in [
            ("x.json", "{", "not JSON"),
            ("x.json", "[]", "no requests in it"),
            ("x.json", r#"[{}, {"modle": {}}]"#, "request 1 is not a aibuyer.serving.v1.PredictCtrRequest: "),
            ("x.bin", "\u{5}ab", "request 0 is not a aibuyer.serving.v1.PredictCtrRequest: the file ends within it"),
        ] {
            let (_folder, path) = file(name, content.as_bytes());
            let error = read(&path, PREDICT_CTR).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(name), "{error}");
        }
        let error = read(Path::new("no.json"), "CtrService/Predict").unwrap_err().to_string();
        assert!(error.contains("no method `CtrService/Predict`"), "{error}");
    }
}
