//! Tensors of the protocol, raw or typed, from and to those of a session. Every shape and length is checked before
//! anything is run; what values mean is the model's business.

use aibuyer_domain::model::{Signature, TensorInfo};
use aibuyer_loader::{
    stages::Batching,
    tensor::{Elements, Tensor},
};
use aibuyer_proto::inference::{
    self as pb, InferTensorContents, model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
};
use half::{bf16, f16};
use prost::bytes::Bytes;
use tonic::Status;

use super::model::datatype;
use crate::status;

/// The request's inputs in the signature's order, and how many rows they are.
pub(super) fn inputs(
    signature: &Signature,
    batching: Batching,
    max_rows: usize,
    request: &pb::ModelInferRequest,
) -> Result<(Vec<Tensor>, usize), Status> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let reason = format!("has {} tensors for {} inputs", raw.len(), request.inputs.len());
        return Err(status::invalid_field("raw_input_contents", reason));
    }
    let mut found: Vec<(usize, Vec<usize>)> = Vec::with_capacity(signature.inputs.len());
    for declared in &signature.inputs {
        let mut given = request.inputs.iter().enumerate().filter(|(_, input)| input.name == declared.name);
        let Some((place, input)) = given.next() else {
            return Err(status::invalid_field("inputs", format!("lacks {declared}")));
        };
        if given.next().is_some() {
            return Err(status::invalid_field("inputs", format!("has {:?} twice", declared.name)));
        }
        let shape = shape(declared, batching, max_rows, input)?;
        if let Some((_, first)) = found.first()
            && batching == Batching::Rows
            && first[0] != shape[0]
        {
            let reason = format!("{:?} has {} rows, another input {}", declared.name, shape[0], first[0]);
            return Err(status::invalid_field("inputs", reason));
        }
        found.push((place, shape));
    }
    if let Some(extra) = request.inputs.iter().find(|i| signature.inputs.iter().all(|d| d.name != i.name)) {
        let inputs: Vec<String> = signature.inputs.iter().map(ToString::to_string).collect();
        let reason = format!("the model has no input {:?}; it has {}", extra.name, inputs.join(", "));
        return Err(status::invalid_field("inputs", reason));
    }
    let mut tensors: Vec<Tensor> = Vec::with_capacity(found.len());
    for (declared, (place, shape)) in signature.inputs.iter().zip(found) {
        let contents = request.inputs[place].contents.as_ref();
        let elements = elements(declared, shape.iter().product(), raw.get(place), contents)?;
        tensors.push(Tensor { shape, elements });
    }
    let rows = if batching == Batching::Rows { tensors.first().map_or(0, Tensor::rows) } else { 1 };
    Ok((tensors, rows))
}

/// Shape of an input, whose type and fixed dimensions must be the model's.
fn shape(
    declared: &TensorInfo,
    batching: Batching,
    max_rows: usize,
    input: &InferInputTensor,
) -> Result<Vec<usize>, Status> {
    let fail = |reason: String| Err(status::invalid_field("inputs", format!("{:?} {reason}", declared.name)));
    if input.datatype != datatype(&declared.dtype) {
        return fail(format!("is {}, must be {}", input.datatype, datatype(&declared.dtype)));
    }
    let shape: Vec<usize> = input.shape.iter().map_while(|d| usize::try_from(*d).ok()).collect();
    let fits = shape.len() == input.shape.len()
        && shape.len() == declared.shape.len()
        && declared.shape.iter().zip(&shape).all(|(want, got)| want.is_none_or(|want| want == *got))
        && shape.iter().try_fold(1usize, |product, d| product.checked_mul(*d)).is_some();
    if !fits {
        let dimensions = declared.shape.iter().enumerate().map(|(i, d)| match d {
            Some(size) => size.to_string(),
            None if i == 0 && batching == Batching::Rows => "rows".to_owned(),
            None => "any".to_owned(),
        });
        let dimensions: Vec<String> = dimensions.collect();
        return fail(format!("has shape {:?}, must have [{}]", input.shape, dimensions.join(", ")));
    }
    match shape.first() {
        Some(rows) if batching == Batching::Rows && !(1..=max_rows).contains(rows) => {
            fail(format!("has {rows} rows, must have 1 to {max_rows} (limits.max_candidates)"))
        }
        _ => Ok(shape),
    }
}

/// An input's values, raw or typed.
fn elements(
    declared: &TensorInfo,
    needed: usize,
    raw: Option<&Bytes>,
    typed: Option<&InferTensorContents>,
) -> Result<Elements, Status> {
    let name = &declared.name;
    if declared.dtype == "string" {
        return text(name, needed, raw, typed);
    }
    if let Some(bytes) = raw {
        return raw_elements(&declared.dtype, bytes).filter(|elements| elements.len() == needed).ok_or_else(|| {
            let reason = format!("{name:?} has {} bytes, which are not {needed} of {}", bytes.len(), declared.dtype);
            status::invalid_field("raw_input_contents", reason)
        });
    }
    if !has_field(&declared.dtype) {
        let reason =
            format!("{name:?} is {}, for which there is no typed field: send raw_input_contents", declared.dtype);
        return Err(status::invalid_field("inputs", reason));
    }
    let empty = InferTensorContents::default();
    let found = typed_elements(&declared.dtype, typed.unwrap_or(&empty)).ok_or_else(|| {
        let reason = format!("{name:?} has a value that is out of range for {}", declared.dtype);
        status::invalid_field("inputs", reason)
    })?;
    if found.len() != needed {
        let reason = format!("{name:?} has {} values, its shape needs {needed}", found.len());
        return Err(status::invalid_field("inputs", reason));
    }
    Ok(found)
}

/// Whether typed contents have a field for the type; where they have none, a response is raw as a whole.
pub(super) fn has_field(dtype: &str) -> bool {
    !matches!(dtype, "float16" | "bfloat16")
}

/// An input of texts, raw or typed, each checked by itself: a bad one would fail its whole batch.
fn text(
    name: &str,
    needed: usize,
    raw: Option<&Bytes>,
    typed: Option<&InferTensorContents>,
) -> Result<Elements, Status> {
    let elements = match (raw, typed) {
        (Some(bytes), _) => lengths(bytes).filter(|elements| elements.len() == needed).ok_or_else(|| {
            let reason = format!(
                "{name:?} has {} bytes, which are not {needed} of BYTES, each after its length in 4 bytes",
                bytes.len()
            );
            status::invalid_field("raw_input_contents", reason)
        })?,
        (None, typed) => typed.map_or_else(Vec::new, |t| t.bytes_contents.iter().map(Bytes::as_ref).collect()),
    };
    if elements.len() != needed {
        let reason = format!("{name:?} has {} values, its shape needs {needed}", elements.len());
        return Err(status::invalid_field("inputs", reason));
    }
    let text = |(i, bytes): (usize, &[u8])| {
        let wrong = |reason| status::invalid_field(&format!("inputs[{name:?}][{i}]"), reason);
        match std::str::from_utf8(bytes) {
            Err(_) => Err(wrong("is not UTF-8, as strings of ONNX are")),
            Ok(text) if text.contains('\0') => Err(wrong("has a NUL, where ONNX Runtime would end it")),
            Ok(text) => Ok(text.to_owned()),
        }
    };
    elements.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Elements::Text)
}

/// Elements that stand each after its length, four bytes little-endian; `None` where the last one is not whole.
fn lengths(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        elements.push(element);
        bytes = rest;
    }
    Some(elements)
}

fn read<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| from(*chunk)).collect())
}

/// Little-endian values; `None` where the bytes do not make up whole ones.
fn raw_elements(dtype: &str, bytes: &[u8]) -> Option<Elements> {
    Some(match dtype {
        "bool" => Elements::Bool(bytes.iter().map(|b| *b != 0).collect()),
        "uint8" => Elements::U8(bytes.to_vec()),
        "int8" => Elements::I8(read(bytes, i8::from_le_bytes)?),
        "uint16" => Elements::U16(read(bytes, u16::from_le_bytes)?),
        "int16" => Elements::I16(read(bytes, i16::from_le_bytes)?),
        "uint32" => Elements::U32(read(bytes, u32::from_le_bytes)?),
        "int32" => Elements::I32(read(bytes, i32::from_le_bytes)?),
        "uint64" => Elements::U64(read(bytes, u64::from_le_bytes)?),
        "int64" => Elements::I64(read(bytes, i64::from_le_bytes)?),
        "float32" => Elements::F32(read(bytes, f32::from_le_bytes)?),
        "float16" => Elements::F16(read(bytes, f16::from_le_bytes)?),
        "bfloat16" => Elements::BF16(read(bytes, bf16::from_le_bytes)?),
        _ => Elements::F64(read(bytes, f64::from_le_bytes)?),
    })
}

fn narrow<T: TryFrom<S>, S: Copy>(values: &[S]) -> Option<Vec<T>> {
    values.iter().map(|v| T::try_from(*v).ok()).collect()
}

/// The protocol carries small integers in wider fields; `None` where one does not fit.
fn typed_elements(dtype: &str, contents: &InferTensorContents) -> Option<Elements> {
    Some(match dtype {
        "bool" => Elements::Bool(contents.bool_contents.clone()),
        "uint8" => Elements::U8(narrow(&contents.uint_contents)?),
        "int8" => Elements::I8(narrow(&contents.int_contents)?),
        "uint16" => Elements::U16(narrow(&contents.uint_contents)?),
        "int16" => Elements::I16(narrow(&contents.int_contents)?),
        "uint32" => Elements::U32(contents.uint_contents.clone()),
        "int32" => Elements::I32(contents.int_contents.clone()),
        "uint64" => Elements::U64(contents.uint64_contents.clone()),
        "int64" => Elements::I64(contents.int64_contents.clone()),
        "float32" => Elements::F32(contents.fp32_contents.clone()),
        _ => Elements::F64(contents.fp64_contents.clone()),
    })
}

/// An output in the form that the request's inputs had; raw bytes are given back beside it.
pub(super) fn output(name: String, tensor: Tensor, raw: bool) -> (InferOutputTensor, Option<Bytes>) {
    let mut output = InferOutputTensor {
        name,
        datatype: datatype(tensor.elements.dtype()).to_owned(),
        shape: tensor.shape.iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect(),
        ..Default::default()
    };
    if raw {
        return (output, Some(raw_bytes(&tensor.elements).into()));
    }
    output.contents = Some(typed_contents(tensor.elements));
    (output, None)
}

fn raw_bytes(elements: &Elements) -> Vec<u8> {
    match elements {
        Elements::Bool(v) => v.iter().map(|b| u8::from(*b)).collect(),
        Elements::U8(v) => v.clone(),
        Elements::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::U64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::BF16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elements::Text(v) => {
            let mut bytes = Vec::with_capacity(v.iter().map(|text| 4 + text.len()).sum());
            for text in v {
                // A message that is longer than 4 GiB cannot be sent anyway.
                bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            bytes
        }
    }
}

fn typed_contents(elements: Elements) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match elements {
        Elements::Bool(v) => contents.bool_contents = v,
        Elements::U8(v) => contents.uint_contents = v.into_iter().map(u32::from).collect(),
        Elements::I8(v) => contents.int_contents = v.into_iter().map(i32::from).collect(),
        Elements::U16(v) => contents.uint_contents = v.into_iter().map(u32::from).collect(),
        Elements::I16(v) => contents.int_contents = v.into_iter().map(i32::from).collect(),
        Elements::U32(v) => contents.uint_contents = v,
        Elements::I32(v) => contents.int_contents = v,
        Elements::U64(v) => contents.uint64_contents = v,
        Elements::I64(v) => contents.int64_contents = v,
        Elements::F32(v) => contents.fp32_contents = v,
        Elements::F64(v) => contents.fp64_contents = v,
        Elements::Text(v) => contents.bytes_contents = v.into_iter().map(Bytes::from).collect(),
        // See `has_field`.
        Elements::F16(_) | Elements::BF16(_) => {}
    }
    contents
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_through_both_forms() {
        let all = [
            Elements::Bool(vec![true, false]),
            Elements::U8(vec![0, 255]),
            Elements::I8(vec![-128, 127]),
            Elements::U16(vec![0, 65_535]),
            Elements::I16(vec![-32_768, 32_767]),
            Elements::U32(vec![0, u32::MAX]),
            Elements::I32(vec![i32::MIN, i32::MAX]),
            Elements::U64(vec![0, u64::MAX]),
            Elements::I64(vec![i64::MIN, i64::MAX]),
            Elements::F32(vec![-0.5, f32::MAX]),
            Elements::F64(vec![-0.5, f64::MAX]),
        ];
        for elements in all {
            let dtype = elements.dtype();
            assert_eq!(raw_elements(dtype, &raw_bytes(&elements)), Some(elements.clone()));
            assert_eq!(typed_elements(dtype, &typed_contents(elements.clone())), Some(elements));
        }
        for elements in [
            Elements::F16([f16::MIN, f16::MIN_POSITIVE_SUBNORMAL, f16::INFINITY].to_vec()),
            Elements::BF16([bf16::MAX, bf16::NEG_ZERO].to_vec()),
        ] {
            let dtype = elements.dtype();
            assert!(!has_field(dtype));
            assert_eq!(raw_elements(dtype, &raw_bytes(&elements)), Some(elements));
        }
        assert_eq!(raw_bytes(&Elements::F16(vec![f16::ONE])), [0x00, 0x3C], "little-endian");
        assert_eq!(raw_elements("float16", &[1, 2, 3]), None);
        assert_eq!(raw_elements("int32", &[1, 2, 3]), None);
        let too_large = InferTensorContents { int_contents: vec![128], ..Default::default() };
        assert_eq!(typed_elements("int8", &too_large), None);
    }
    #[test]
    fn texts_survive_both_forms_and_bad_ones_are_named() {
        let texts = ["", "a", "é\n", "x".repeat(300).as_str()].map(str::to_owned).to_vec();
        let elements = Elements::Text(texts);
        let (bytes, contents) = (Bytes::from(raw_bytes(&elements)), typed_contents(elements.clone()));
        assert_eq!(bytes[..9], *b"\0\0\0\0\x01\0\0\0a");
        assert_eq!(text("s", 4, Some(&bytes), None).unwrap(), elements);
        assert_eq!(text("s", 4, None, Some(&contents)).unwrap(), elements);
        let raw = |bytes: &'static [u8], needed| text("s", needed, Some(&Bytes::from(bytes)), None).unwrap_err();
        for (bad, needed) in [
            (&b"\x01\0\0\0a"[..], 2),
            (b"\x01\0\0\0a", 0),
            (b"\x02\0\0\0a", 1),
            (b"\xff\xff\xff\xffa", 1),
            (b"\x01\0\0\0a\0", 1),
            (b"\0\0\0", 1),
        ] {
            let error = raw(bad, needed);
            assert!(error.message().contains(&format!("which are not {needed} of BYTES")), "{error}");
        }
        let error = raw(b"\x01\0\0\0a\x02\0\0\0\xc3\x28", 2);
        assert!(error.message().contains("inputs[\"s\"][1]: is not UTF-8"), "{error}");
        let error = raw(b"\x03\0\0\0a\0b", 1);
        assert!(error.message().contains("inputs[\"s\"][0]: has a NUL"), "{error}");
        let error = text("s", 3, None, Some(&contents)).unwrap_err();
        assert!(error.message().contains("has 4 values, its shape needs 3"), "{error}");
        assert!(text("s", 1, None, None).unwrap_err().message().contains("has 0 values"));
    }
}
