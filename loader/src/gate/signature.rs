//! Whether callers of one version can call another without a change.

use aibuyer_domain::{
    ctr::{FeatureSpec, FieldSpec, Source},
    model::{Signature, TensorInfo},
};

/// Whether requests in named columns to `serving` are requests to `candidate`, and intervals still come.
///
/// A feature may come in the context or by candidate to any version. What callers encode by themselves is laid out by
/// one version's spec: it is not compared.
pub(super) fn features(candidate: &FeatureSpec, serving: &FeatureSpec) -> Result<(), String> {
    for old in &serving.fields {
        let input = old.input();
        let Some(new) = candidate.fields.iter().find(|f| f.input() == input) else {
            return Err(format!("callers may send the feature {input:?}, which it does not have and so refuses"));
        };
        if new.accepts() != old.accepts() {
            let (new, old) = (new.accepts(), old.accepts());
            return Err(format!("the feature {input:?} takes {new}, and callers may send {old}"));
        }
        if asks(new) && !old.needs_value() {
            return Err(format!("the feature {input:?} must have a value, and callers may leave it out"));
        }
        if new.rejects_unknown() && !old.rejects_unknown() {
            return Err(format!("the feature {input:?} refuses unknown values, and callers may send them"));
        }
    }
    let named = |spec: &FeatureSpec, input: &str| {
        spec.entity_keys().contains(&input) || spec.fields.iter().any(|f| f.input() == input)
    };
    if let Some(key) = serving.entity_keys().into_iter().find(|key| !named(candidate, key)) {
        return Err(format!("callers send {key:?}, the key of stored features, which it does not have and so refuses"));
    }
    if let Some(key) = candidate.entity_keys().into_iter().find(|key| !named(serving, key)) {
        return Err(format!("it looks features up by {key:?}, which no caller may send today"));
    }
    for new in candidate.fields.iter().filter(|f| asks(f)) {
        let input = new.input();
        if serving.fields.iter().all(|f| f.input() != input) {
            return Err(format!("the feature {input:?} must have a value, and no caller may send it today"));
        }
    }
    if serving.has_variance() && !candidate.has_variance() {
        return Err("it gives no `logit_variance`, so callers would get no intervals any more".to_owned());
    }
    Ok(())
}

/// Whether a request must carry the feature: a stored one is looked up.
fn asks(field: &FieldSpec) -> bool {
    field.needs_value() && matches!(field.source(), Source::Request { .. })
}

/// Whether every value of `serving`'s inputs is one of `candidate`'s, and every output still comes.
pub(super) fn tensors(candidate: &Signature, serving: &Signature) -> Result<(), String> {
    let find = |tensors: &[TensorInfo], name: &str| tensors.iter().find(|t| t.name == name).cloned();
    for old in &serving.inputs {
        match find(&candidate.inputs, &old.name) {
            None => return Err(format!("callers send the input `{}`, which it does not have", old.name)),
            Some(new) if !takes(&new, old) => return Err(format!("its input is {new}, and callers may send {old}")),
            Some(_) => {}
        }
    }
    if let Some(new) = candidate.inputs.iter().find(|new| find(&serving.inputs, &new.name).is_none()) {
        return Err(format!("it needs the input {new}, which no caller sends"));
    }
    for old in &serving.outputs {
        match find(&candidate.outputs, &old.name) {
            None => return Err(format!("callers read the output `{}`, which it does not have", old.name)),
            Some(new) if !may_be(&new, old) => return Err(format!("its output is {new}, and callers read {old}")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether an input takes every value that another does.
fn takes(new: &TensorInfo, old: &TensorInfo) -> bool {
    let wide = |(new, old): (&Option<usize>, &Option<usize>)| new.is_none() || new == old;
    new.dtype == old.dtype && new.shape.len() == old.shape.len() && new.shape.iter().zip(&old.shape).all(wide)
}

/// Whether an output can be read as another: a dimension that varies may come to any size.
fn may_be(new: &TensorInfo, old: &TensorInfo) -> bool {
    let fits = |(new, old): (&Option<usize>, &Option<usize>)| new.is_none() || old.is_none() || new == old;
    new.dtype == old.dtype && new.shape.len() == old.shape.len() && new.shape.iter().zip(&old.shape).all(fits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tensor(name: &str, dtype: &str, shape: &[Option<usize>]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn plain_models_take_what_was_taken_and_give_what_was_given() {
        let x = |shape: &[Option<usize>]| tensor("x", "float32", shape);
        let y = tensor("y", "float32", &[None, Some(1)]);
        let signature = |inputs: &[TensorInfo], outputs: &[TensorInfo]| Signature {
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        };
        let serving = signature(&[x(&[None, Some(3)])], std::slice::from_ref(&y));
        let more = tensor("z", "int64", &[None]);
        let good = [
            serving.clone(),
            signature(&[x(&[None, None])], std::slice::from_ref(&y)),
            signature(&[x(&[None, Some(3)])], &[more.clone(), y.clone()]),
            signature(&[x(&[None, Some(3)])], &[tensor("y", "float32", &[None, None])]),
        ];
        for candidate in good {
            assert_eq!(tensors(&candidate, &serving), Ok(()));
        }
        let outputs = std::slice::from_ref(&y);
        let bad = [
            (signature(&[], outputs), "callers send the input `x`"),
            (signature(&[tensor("x", "float64", &[None, Some(3)])], outputs), "its input is x float64 [batch, 3]"),
            (signature(&[x(&[None, Some(4)])], outputs), "callers may send x float32 [batch, 3]"),
            (signature(&[x(&[Some(1), Some(3)])], outputs), "its input is x float32 [1, 3]"),
            (signature(&[x(&[None, Some(3), Some(1)])], outputs), "[batch, 3, 1]"),
            (signature(&[x(&[None, Some(3)]), more.clone()], outputs), "it needs the input z int64 [batch]"),
            (signature(&[x(&[None, Some(3)])], &[more]), "callers read the output `y`"),
            (signature(&[x(&[None, Some(3)])], &[tensor("y", "float32", &[None, Some(2)])]), "its output is y"),
        ];
        for (candidate, part) in bad {
            let reason = tensors(&candidate, &serving).unwrap_err();
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }

    /// The demo model's spec with other fields; `tail` fills what they leave of its inputs.
    fn spec(fields: &[Value], variance: bool) -> FeatureSpec {
        let width = |key: &str| fields.iter().map(|f| f.get(key).map_or(0, |v| v.as_array().map_or(1, Vec::len))).sum();
        let (slots, columns): (usize, usize) = (width("slots"), width("column"));
        let tensor = |dtype: &str, shape: Value| json!({"dtype": dtype, "shape": shape});
        let mut outputs = json!({"logit": tensor("float32", json!(["batch"]))});
        let mut files = json!({"model.onnx": "0".repeat(64), "golden.jsonl": "0".repeat(64), "v": "0".repeat(64)});
        let mut spec = json!({
            "contract_version": 1,
            "model": {"name": "m", "kind": "ctr", "file": "model.onnx", "opset": 17, "outputs": {}, "inputs": {
                "ids": tensor("int64", json!(["batch", slots])),
                "dense": tensor("float32", json!(["batch", columns])),
            }},
            "hash": {"scheme": "aibuyer-hash-v1"},
            "table_rows": 1000,
            "fields": fields,
            "golden": {"file": "golden.jsonl", "logit_abs_tol": 1e-5, "variance_rel_tol": 1e-5},
        });
        if variance {
            outputs["logit_variance"] = tensor("float32", json!(["batch"]));
            files["calibration.json"] = "0".repeat(64).into();
            let interval = json!({"method": "m", "unit": "u", "default_level": 0.9, "calibration": "calibration.json"});
            spec["interval"] = interval;
        }
        spec["model"]["outputs"] = outputs;
        spec["files_sha256"] = files;
        FeatureSpec::parse(spec.to_string().as_bytes()).unwrap()
    }

    /// A field that fills slot or column `at`.
    fn field(at: usize, name: &str, extra: &Value) -> Value {
        let mut field = match extra["column"].is_null() {
            true => json!({
                "kind": "categorical", "encoding": {"type": "vocabulary", "file": "v"},
                "row_offset": at * 100, "rows": 100, "slots": [at],
            }),
            false => json!({"kind": "numeric"}),
        };
        field["name"] = name.into();
        field["source"] = json!({"kind": "request", "key": name});
        for (key, value) in extra.as_object().unwrap() {
            field[key] = value.clone();
        }
        field
    }

    #[test]
    fn requests_of_today_stay_valid() {
        let number = |at: usize, name: &str| field(at, name, &json!({"column": at, "default": 0.5}));
        let site = |extra: Value| field(0, "site", &extra);
        let plain = || site(json!({}));
        let serving = || spec(&[plain(), number(0, "price")], true);
        let more = field(1, "hour", &json!({}));
        let list = json!({"slots": [0, 1], "multi": {"max_values": 2, "truncate": "keep_first", "pooling": "mean"}});
        let good = [
            serving(),
            // An optional feature more; another encoding; another order.
            spec(&[number(0, "price"), plain(), more.clone()], true),
            spec(
                &[
                    site(json!({"rows": 12, "encoding":
                {"type": "hash", "scheme": "aibuyer-hash-v1", "buckets": 10}})),
                    number(0, "price"),
                ],
                true,
            ),
        ];
        for candidate in good {
            assert_eq!(features(&candidate, &serving()), Ok(()));
        }
        let needed = |at: usize, name: &str| field(at, name, &json!({"column": at}));
        let bad = [
            (spec(&[plain(), number(0, "cost")], true), "\"price\", which it does not have"),
            (spec(&[plain(), field(1, "price", &json!({})), number(0, "x")], true), "\"price\" takes strings, int64s"),
            (spec(&[site(list), number(0, "price")], true), "\"site\" takes string_lists or strings, and callers"),
            (spec(&[plain(), needed(0, "price")], true), "\"price\" must have a value, and callers may leave it out"),
            (spec(&[site(json!({"missing": "reject"})), number(0, "price")], true), "\"site\" must have a value"),
            (spec(&[site(json!({"oov": "reject"})), number(0, "price")], true), "\"site\" refuses unknown values"),
            (spec(&[plain(), number(0, "price"), needed(1, "bid")], true), "\"bid\" must have a value, and no caller"),
            (spec(&[plain(), number(0, "price")], false), "no `logit_variance`"),
        ];
        for (candidate, part) in bad {
            let reason = features(&candidate, &serving()).unwrap_err();
            assert!(reason.contains(part), "{part}: {reason}");
        }
        // What is looked up need not be sent, but the key by which it is must be.
        let by = |key: &str| json!({"kind": "feature_store", "entity": "campaign", "entity_key": key, "feature": "clicks_1d"});
        let stored = |key: &str| field(1, "clicks", &json!({"column": 1, "source": by(key)}));
        let id = || field(1, "campaign_id", &json!({}));
        let bare = spec(&[plain(), number(0, "price")], false);
        let with_key = spec(&[plain(), id(), number(0, "price")], false);
        let looked_up = spec(&[plain(), id(), number(0, "price"), stored("campaign_id")], false);
        let keyed = spec(&[plain(), number(0, "price"), stored("campaign_id")], false);
        let carried = spec(&[plain(), number(0, "price"), field(1, "clicks", &json!({"column": 1}))], false);
        assert_eq!(features(&looked_up, &with_key), Ok(()));
        for (candidate, serving, part) in [
            (&keyed, &bare, "by \"campaign_id\", which no caller may send"),
            (&bare, &keyed, "\"clicks\", which it does not have"),
            (&carried, &keyed, "callers send \"campaign_id\""),
        ] {
            let reason = features(candidate, serving).unwrap_err();
            assert!(reason.contains(part), "{part}: {reason}");
        }
        // Where callers always send it, it may be asked for.
        let serving = spec(&[plain(), needed(0, "price")], false);
        assert_eq!(features(&serving, &serving), Ok(()));
    }
}
