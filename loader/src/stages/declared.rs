//! The signature that `MLmodel` declares, compared with the model's own.

use aibuyer_domain::model::{Signature, TensorInfo};
use serde::Deserialize;

use crate::tensor::Elements;

/// Tensors by group; `None` where MLflow knows columns of a data frame, which say nothing about tensors.
#[derive(Debug, Default)]
pub(super) struct Declared {
    inputs: Option<Vec<Declaration>>,
    outputs: Option<Vec<Declaration>>,
}

/// One tensor, as MLflow writes it.
#[derive(Debug, Deserialize)]
struct Declaration {
    /// Absent where it is the only one.
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Spec {
    dtype: String,
    /// -1 is a dimension that varies.
    shape: Vec<i64>,
}

impl Declared {
    /// Of the JSON texts in `signature.inputs` and `signature.outputs`.
    pub(super) fn parse(inputs: Option<&str>, outputs: Option<&str>) -> Self {
        let group = |text: Option<&str>| serde_json::from_str(text?).ok();
        Self { inputs: group(inputs), outputs: group(outputs) }
    }

    /// The first way in which the model is not what was declared.
    pub(super) fn mismatch(&self, actual: &Signature) -> Option<String> {
        let inputs = self.inputs.as_deref().and_then(|declared| {
            let extra = || actual.inputs.iter().find(|t| find(declared, t, actual.inputs.len()).is_none());
            group("input", declared, &actual.inputs)
                .or_else(|| extra().map(|t| format!("the model has the input {t}, which MLmodel does not name")))
        });
        inputs.or_else(|| group("output", self.outputs.as_deref()?, &actual.outputs))
    }
}

fn find<'a>(declared: &'a [Declaration], tensor: &TensorInfo, tensors: usize) -> Option<&'a Declaration> {
    match declared {
        [Declaration { name: None, .. }] if tensors == 1 => declared.first(),
        _ => declared.iter().find(|d| d.name.as_deref() == Some(&tensor.name)),
    }
}

fn group(group: &str, declared: &[Declaration], actual: &[TensorInfo]) -> Option<String> {
    for want in declared {
        let got = match (&want.name, actual) {
            (Some(name), _) => actual.iter().find(|t| t.name == *name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let name = want.name.as_deref().unwrap_or("without a name");
        let Some(got) = got else { return Some(format!("MLmodel names the {group} `{name}`, which the model lacks")) };
        let Spec { dtype, shape } = &want.spec;
        // numpy's texts; an `object` may be anything.
        let named = if matches!(dtype.as_str(), "str" | "bytes") { "string" } else { dtype };
        // Other types are not numpy's, and refused by themselves.
        let same_type = named == got.dtype || Elements::zeros(named, 0).is_none();
        let fits = |(want, got): (&i64, &Option<usize>)| match (usize::try_from(*want), got) {
            (Ok(want), Some(got)) => want == *got,
            _ => true,
        };
        if !same_type || shape.len() != got.shape.len() || !shape.iter().zip(&got.shape).all(fits) {
            return Some(format!("the {group} is {got}, MLmodel says {dtype} {shape:?}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let tensor = |name: &str, dtype: &str, shape: &[Option<usize>]| TensorInfo {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
        };
        let actual = Signature {
            inputs: vec![tensor("x", "float32", &[None, Some(3)])],
            outputs: vec![
                tensor("y", "float32", &[None]),
                tensor("z", "int64", &[None]),
                tensor("s", "string", &[None]),
                tensor("h", "float16", &[None]),
            ],
        };
        let declare = |name: &str, dtype: &str, shape: &str| {
            format!(r#"[{{{name}"type": "tensor", "tensor-spec": {{"dtype": "{dtype}", "shape": {shape}}}}}]"#)
        };
        let x = r#""name": "x", "#;
        for good in [
            declare(x, "float32", "[-1, 3]"),
            declare(x, "float32", "[-1, -1]"),
            declare("", "float32", "[2, 3]"),
            r#"[{"type": "double", "name": "a", "required": true}]"#.to_owned(),
        ] {
            assert_eq!(Declared::parse(Some(&good), None).mismatch(&actual), None, "{good}");
        }
        for (bad, part) in [
            (declare(x, "float64", "[-1, 3]"), "the input is x float32 [batch, 3], MLmodel says float64 [-1, 3]"),
            (declare(x, "float32", "[-1, 4]"), "MLmodel says float32 [-1, 4]"),
            (declare(x, "float32", "[-1]"), "MLmodel says float32 [-1]"),
            (declare(r#""name": "w", "#, "float32", "[-1, 3]"), "the input `w`, which the model lacks"),
            ("[]".to_owned(), "the model has the input x float32 [batch, 3], which MLmodel does not name"),
        ] {
            let reason = Declared::parse(Some(&bad), None).mismatch(&actual).unwrap_or_default();
            assert!(reason.contains(part), "{part}: {reason}");
        }
        for (name, dtype) in [("y", "float32"), ("s", "str"), ("s", "bytes"), ("s", "object"), ("h", "float16")] {
            let good = declare(&format!(r#""name": "{name}", "#), dtype, "[-1]");
            assert_eq!(Declared::parse(None, Some(&good)).mismatch(&actual), None, "{name} {dtype}");
        }
        for (name, dtype, part) in [("y", "str", "y float32 [batch], MLmodel says str"), ("h", "float32", "h float16")]
        {
            let bad = declare(&format!(r#""name": "{name}", "#), dtype, "[-1]");
            assert!(Declared::parse(None, Some(&bad)).mismatch(&actual).is_some_and(|r| r.contains(part)), "{part}");
        }
        let y = declare(r#""name": "q", "#, "float32", "[-1]");
        assert!(Declared::parse(None, Some(&y)).mismatch(&actual).is_some_and(|r| r.contains("the output `q`")));
    }
}
