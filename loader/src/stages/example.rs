//! The example that MLflow logs with a model: one request whose values mean something.
//!
//! What MLflow writes for tensors is read: `inputs` by name or bare, `instances`, rows of a data frame. Anything else
//! (text, dates, missing values) is no example of a tensor model and left alone.

use aibuyer_domain::model::{Signature, TensorInfo};
use half::{bf16, f16};
use serde_json::{Map, Value};

use super::files::Files;
use crate::{
    error::LoadError,
    session::Session,
    tensor::{Elements, Tensor, each},
};

/// Where MLflow puts it; the first is what a client would send.
const FILES: [&str; 2] = ["serving_input_example.json", "input_example.json"];
/// An example beyond this size is not looked at.
const MOST: usize = 16 << 20;

/// An example as it is written.
#[derive(Debug)]
pub(super) struct Example {
    file: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// By input.
    Named(Map<String, Value>),
    /// Of the only input.
    Bare(Value),
    /// Columns of a data frame: inputs, or together the only one.
    Frame { columns: Vec<String>, rows: Vec<Value> },
}

/// Why an example does not become tensors.
enum Misfit {
    /// It is for something else.
    Other,
    /// It contradicts the signature.
    Wrong(String),
}

/// The example in a folder, if there is one.
pub(super) fn find(files: &mut Files) -> Result<Option<Example>, LoadError> {
    let Some(file) = FILES.into_iter().find(|file| files.has(file)) else { return Ok(None) };
    let content = files.read(file)?;
    if content.len() > MOST {
        tracing::info!(file, bytes = content.len(), "example not tried: it is too large");
        return Ok(None);
    }
    let json = serde_json::from_slice(&content);
    let json = json.map_err(|e| LoadError::Content { file: file.to_owned(), reason: format!("is not JSON: {e}") })?;
    Ok(read(json).map(|values| Example { file, values }))
}

fn read(json: Value) -> Option<Values> {
    let mut map = match json {
        Value::Object(map) => map,
        Value::Array(rows) => return Some(records(rows)),
        _ => return None,
    };
    // The keys of a request; a model may well have an input of that name, beside others.
    let request = |key: &str| map.contains_key(key) && map.keys().all(|k| k == key || k == "params");
    let key = ["inputs", "instances", "dataframe_records", "dataframe_split"].into_iter().find(|key| request(key));
    match key.and_then(|key| map.remove(key)) {
        Some(Value::Object(inner)) if key != Some("dataframe_split") => Some(Values::Named(inner)),
        Some(Value::Array(rows)) => Some(records(rows)),
        Some(Value::Object(inner)) => frame(inner),
        Some(_) => None,
        None if map.contains_key("columns") && map.contains_key("data") => frame(map),
        None => Some(Values::Named(map)),
    }
}

/// Rows as objects turn into columns; any others are the values of one input.
fn records(rows: Vec<Value>) -> Values {
    let mut columns: Map<String, Value> = Map::new();
    for row in &rows {
        let Value::Object(row) = row else { return Values::Bare(Value::Array(rows)) };
        for (name, value) in row {
            let column = columns.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(column) = column {
                column.push(value.clone());
            }
        }
    }
    Values::Named(columns)
}

fn frame(mut map: Map<String, Value>) -> Option<Values> {
    let columns = serde_json::from_value(map.remove("columns")?).ok()?;
    let Value::Array(rows) = map.remove("data")? else { return None };
    Some(Values::Frame { columns, rows })
}

impl Example {
    /// The example as a session takes it; `None` where it is for something else than tensors.
    pub(super) fn tensors(&self, signature: &Signature) -> Result<Option<Vec<Tensor>>, LoadError> {
        let tensors = || -> Result<Vec<Tensor>, Misfit> {
            let values = self.by_input(signature)?;
            signature.inputs.iter().zip(values).map(|(info, value)| tensor(info, &value)).collect()
        };
        match tensors() {
            Ok(tensors) => Ok(Some(tensors)),
            Err(Misfit::Other) => {
                tracing::info!(file = self.file, "example not tried: it does not hold tensors");
                Ok(None)
            }
            Err(Misfit::Wrong(reason)) => Err(self.fail(reason)),
        }
    }

    /// A value for each input, in the signature's order.
    fn by_input(&self, signature: &Signature) -> Result<Vec<Value>, Misfit> {
        let names: Vec<&str> = signature.inputs.iter().map(|t| t.name.as_str()).collect();
        let wrong = |reason: String| Err(Misfit::Wrong(reason));
        let named = |map: &Map<String, Value>| {
            if let Some(name) = map.keys().find(|name| !names.contains(&name.as_str())) {
                return wrong(format!("has {name:?}, the model's inputs are {}", names.join(", ")));
            }
            let value = |name: &&str| {
                map.get(*name).cloned().ok_or_else(|| Misfit::Wrong(format!("has no value of the input `{name}`")))
            };
            names.iter().map(value).collect()
        };
        match &self.values {
            Values::Named(map) => named(map),
            Values::Bare(value) if names.len() == 1 => Ok(vec![value.clone()]),
            Values::Frame { columns, rows } if names.len() == 1 && !columns.iter().any(|c| c == names[0]) => {
                Ok(vec![Value::Array(rows.clone())])
            }
            Values::Frame { columns, rows } => {
                let cells = |at| rows.iter().filter_map(|row| row.get(at).cloned()).collect();
                named(&columns.iter().enumerate().map(|(at, name)| (name.clone(), Value::Array(cells(at)))).collect())
            }
            Values::Bare(_) => wrong(format!("does not name the model's inputs, which are {}", names.join(", "))),
        }
    }

    /// Runs the example: what comes out must be numbers.
    pub(super) fn check(&self, session: &mut dyn Session, inputs: &[Tensor]) -> Result<(), LoadError> {
        let outputs = session.run(inputs).map_err(|e| self.fail(format!("fails in the model: {e}")))?;
        for (info, output) in session.signature().outputs.iter().zip(outputs) {
            let bad = match &output.elements {
                Elements::F32(values) => values.iter().copied().map(f64::from).find(|x| !x.is_finite()),
                Elements::F64(values) => values.iter().copied().find(|x| !x.is_finite()),
                Elements::F16(values) => values.iter().copied().map(f64::from).find(|x| !x.is_finite()),
                Elements::BF16(values) => values.iter().copied().map(f64::from).find(|x| !x.is_finite()),
                _ => None,
            };
            if let Some(bad) = bad {
                return Err(self.fail(format!("gives {bad} in the output `{}`", info.name)));
            }
        }
        Ok(())
    }

    fn fail(&self, reason: String) -> LoadError {
        LoadError::Example { file: self.file.to_owned(), reason }
    }
}

/// A tensor of nested lists.
fn tensor(info: &TensorInfo, value: &Value) -> Result<Tensor, Misfit> {
    let wrong = |reason: &str| Err(Misfit::Wrong(format!("does not fit the input {info}: {reason}")));
    let (mut shape, mut leaves) = (Vec::new(), Vec::new());
    if !flatten(value, 0, &mut shape, &mut leaves) {
        return wrong("its lists differ in length");
    }
    let of_tensors = |leaf: &&Value| match leaf {
        Value::Number(_) | Value::Bool(_) => true,
        Value::String(_) => info.dtype == "string",
        _ => false,
    };
    if !leaves.iter().all(of_tensors) {
        return Err(Misfit::Other);
    }
    // One value a row, as columns have them.
    if shape.len() == 1 && info.shape.len() == 2 {
        shape.push(1);
    }
    let fits = |(n, d): (&usize, &Option<usize>)| d.is_none_or(|d| d == *n);
    if shape.len() != info.shape.len() || !shape.iter().zip(&info.shape).all(fits) {
        return wrong(&format!("its shape is {shape:?}"));
    }
    let Some(mut elements) = Elements::zeros(&info.dtype, leaves.len()) else { return Err(Misfit::Other) };
    let read = each!(&mut elements, values => fill(values, &leaves));
    match read {
        Ok(()) => Ok(Tensor { shape, elements }),
        Err(leaf) => wrong(&format!("{leaf} is not {}", info.dtype)),
    }
}

/// Whether all lists of a depth are as long as each other.
fn flatten<'a>(value: &'a Value, depth: usize, shape: &mut Vec<usize>, leaves: &mut Vec<&'a Value>) -> bool {
    let Value::Array(items) = value else {
        leaves.push(value);
        return depth == shape.len();
    };
    match shape.get(depth) {
        // No list may begin where a value was before.
        None if leaves.is_empty() => shape.push(items.len()),
        Some(length) if *length == items.len() => {}
        _ => return false,
    }
    items.iter().all(|item| flatten(item, depth + 1, shape, leaves))
}

/// Reads values; the first that is not of the type is the error.
fn fill<'a, T: Leaf>(values: &mut [T], leaves: &[&'a Value]) -> Result<(), &'a Value> {
    for (value, leaf) in values.iter_mut().zip(leaves) {
        *value = T::read(leaf).ok_or(*leaf)?;
    }
    Ok(())
}

trait Leaf: Sized {
    fn read(value: &Value) -> Option<Self>;
}

macro_rules! leaf {
    ($($type:ty: $value:ident => $read:expr;)*) => {
        $(impl Leaf for $type {
            fn read($value: &Value) -> Option<Self> {
                $read
            }
        })*
    };
}

leaf! {
    bool: v => v.as_bool();
    u8: v => v.as_u64()?.try_into().ok();
    i8: v => v.as_i64()?.try_into().ok();
    u16: v => v.as_u64()?.try_into().ok();
    i16: v => v.as_i64()?.try_into().ok();
    u32: v => v.as_u64()?.try_into().ok();
    i32: v => v.as_i64()?.try_into().ok();
    u64: v => v.as_u64();
    i64: v => v.as_i64();
    f64: v => v.as_f64();
    f32: v => v.as_number()?.to_string().parse().ok().filter(|x: &f32| x.is_finite());
    f16: v => Some(f16::from_f64(v.as_f64()?)).filter(|x| x.is_finite());
    bf16: v => Some(bf16::from_f64(v.as_f64()?)).filter(|x| x.is_finite());
    String: v => v.as_str().map(str::to_owned);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(name: &str, dtype: &str, shape: &[Option<usize>]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec() }
    }

    fn fit(json: Value, inputs: &[TensorInfo]) -> Result<Option<Vec<Tensor>>, String> {
        let Some(values) = read(json) else { return Ok(None) };
        let signature = Signature { inputs: inputs.to_vec(), outputs: vec![] };
        Example { file: FILES[0], values }.tensors(&signature).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_of_mlflow_is_read() {
        let two = [info("ids", "int64", &[None, Some(2)]), info("x", "float32", &[None, Some(1)])];
        let named = json!({"ids": [[1, 2], [3, 4]], "x": [[0.5], [1]]});
        let expect = vec![
            Tensor { shape: vec![2, 2], elements: Elements::I64(vec![1, 2, 3, 4]) },
            Tensor { shape: vec![2, 1], elements: Elements::F32(vec![0.5, 1.0]) },
        ];
        let records = json!([{"ids": [1, 2], "x": 0.5}, {"x": [1], "ids": [3, 4]}]);
        for json in [
            named.clone(),
            json!({"inputs": named, "params": {}}),
            json!({"instances": [{"ids": [1, 2], "x": [0.5]}, {"ids": [3, 4], "x": [1]}]}),
            json!({"dataframe_split": {"columns": ["x", "ids"], "data": [[[0.5], [1, 2]], [[1], [3, 4]]]}}),
        ] {
            assert_eq!(fit(json.clone(), &two), Ok(Some(expect.clone())), "{json}");
        }
        assert!(fit(records, &two).is_err_and(|e| e.contains("its lists differ in length")));

        let one = [info("inputs", "float64", &[None, Some(2)])];
        let expect = vec![Tensor { shape: vec![1, 2], elements: Elements::F64(vec![1.0, 2.5]) }];
        for json in [
            json!([[1, 2.5]]),
            json!({"inputs": [[1, 2.5]]}),
            json!({"instances": [[1, 2.5]]}),
            json!({"columns": ["a", "b"], "index": [0], "data": [[1, 2.5]]}),
        ] {
            assert_eq!(fit(json.clone(), &one), Ok(Some(expect.clone())), "{json}");
        }
        let flag = [info("flag", "bool", &[None]), info("n", "uint8", &[])];
        let expect = vec![
            Tensor { shape: vec![1], elements: Elements::Bool(vec![true]) },
            Tensor { shape: vec![], elements: Elements::U8(vec![7]) },
        ];
        assert_eq!(fit(json!({"flag": [true], "n": 7}), &flag), Ok(Some(expect)));
        let words = [info("words", "string", &[None, Some(2)]), info("h", "float16", &[None])];
        let expect = vec![
            Tensor { shape: vec![1, 2], elements: Elements::Text(vec!["a".to_owned(), String::new()]) },
            Tensor { shape: vec![1], elements: Elements::F16(vec![f16::from_f32(0.5)]) },
        ];
        assert_eq!(fit(json!({"words": [["a", ""]], "h": [0.5]}), &words), Ok(Some(expect)));
    }

    #[test]
    fn what_holds_no_tensors_is_left_alone() {
        let x = [info("x", "float32", &[None, Some(1)])];
        for json in [
            json!("text"),
            json!({"columns": ["x"], "data": [["2012-05-18T00:00:00"]]}),
            json!({"x": [[null]]}),
            json!({"inputs": 3}),
        ] {
            assert_eq!(fit(json.clone(), &x), Ok(None), "{json}");
        }
    }

    #[test]
    fn what_contradicts_the_signature_is_named() {
        let two = [info("ids", "int64", &[None, Some(2)]), info("x", "float32", &[None])];
        for (json, part) in [
            (json!({"ids": [[1, 2]]}), "has no value of the input `x`"),
            (json!({"ids": [[1, 2]], "x": [1], "y": [1]}), "has \"y\", the model's inputs are ids, x"),
            (json!([[1, 2]]), "does not name the model's inputs, which are ids, x"),
            (json!({"ids": [[1, 2, 3]], "x": [1]}), "the input ids int64 [batch, 2]: its shape is [1, 3]"),
            (json!({"ids": [[1, 2], [3]], "x": [1]}), "its lists differ in length"),
            (json!({"ids": [[1, [2]]], "x": [1]}), "its lists differ in length"),
            (json!({"ids": [[1.5, 2]], "x": [1]}), "1.5 is not int64"),
            (json!({"ids": [[1, 2]], "x": [1e39]}), "1e+39 is not float32"),
            (json!({"ids": [[1, 2]], "x": [[[1]]]}), "the input x float32 [batch]: its shape is [1, 1, 1]"),
        ] {
            let error = fit(json, &two).unwrap_err();
            assert!(error.contains(part) && error.starts_with("serving_input_example.json"), "{part}: {error}");
        }
        let small = [info("h", "float16", &[None])];
        assert!(fit(json!({"h": [70_000]}), &small).unwrap_err().contains("70000 is not float16"));
        let words = [info("words", "string", &[None])];
        assert!(fit(json!({"words": ["a", 1]}), &words).unwrap_err().contains("1 is not string"));
    }
}
