//! Names, types and shapes of a model's inputs and outputs.

use std::fmt;

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the graph.
    pub name: String,
    /// Element type, for example `float32`.
    pub dtype: String,
    /// Shape; `None` is a dimension that varies.
    pub shape: Vec<Option<usize>>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape: Vec<String> =
            self.shape.iter().map(|d| d.map_or_else(|| "batch".to_owned(), |n| n.to_string())).collect();
        write!(f, "{} {} [{}]", self.name, self.dtype, shape.join(", "))
    }
}

/// All inputs and outputs of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorInfo>,
    /// What it gives.
    pub outputs: Vec<TensorInfo>,
}

impl Signature {
    /// The first way in which `actual` is not what `self` declares; order does not matter.
    #[must_use]
    pub fn mismatch(&self, actual: &Self) -> Option<String> {
        let groups = [("input", &self.inputs, &actual.inputs), ("output", &self.outputs, &actual.outputs)];
        groups.into_iter().find_map(|(group, declared, actual)| {
            for want in declared {
                match actual.iter().find(|t| t.name == want.name) {
                    None => return Some(format!("the model has no {group} `{}`", want.name)),
                    Some(got) if got != want => return Some(format!("the {group} is {got}, the spec says {want}")),
                    Some(_) => {}
                }
            }
            let extra = actual.iter().find(|t| declared.iter().all(|want| want.name != t.name))?;
            Some(format!("the model has an {group} `{}` that the spec does not declare", extra.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dtype: &str, shape: &[Option<usize>]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn the_first_difference_is_named() {
        let ids = tensor("ids", "int64", &[None, Some(19)]);
        let logit = tensor("logit", "float32", &[None]);
        let declared = Signature { inputs: vec![ids.clone()], outputs: vec![logit.clone()] };
        assert_eq!(declared.mismatch(&declared), None);
        let cases = [
            (vec![], vec![logit.clone()], "the model has no input `ids`"),
            (
                vec![tensor("ids", "int64", &[None, Some(18)])],
                vec![logit.clone()],
                "the input is ids int64 [batch, 18], the spec says ids int64 [batch, 19]",
            ),
            (
                vec![ids.clone(), tensor("dense", "float32", &[None])],
                vec![logit.clone()],
                "the model has an input `dense` that the spec does not declare",
            ),
            (vec![ids], vec![tensor("p", "float32", &[None])], "the model has no output `logit`"),
        ];
        for (inputs, outputs, expect) in cases {
            assert_eq!(declared.mismatch(&Signature { inputs, outputs }).as_deref(), Some(expect));
        }
    }
}
