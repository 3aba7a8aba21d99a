//! The encoder against an independent, slow reading of the contract: row at a time, straight from the
//! JSON, sharing no code with the crate but the xxh3 function.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_precision_loss)]

use aibuyer_domain::ctr::{Column, Encoder, FeatureSpec, SpecError, StringArray, Values, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

const COUNTRIES: [&str; 4] = ["de", "fr", "Übersee", " pt "];

/// One field of every kind the contract has.
fn spec_json() -> Value {
    let hex = "0".repeat(64);
    let tensor = |dtype: &str, shape: Value| json!({"dtype": dtype, "shape": shape});
    json!({
        "contract_version": 1,
        "model": {"name": "m", "kind": "ctr", "file": "model.onnx", "opset": 17,
            "inputs": {"ids": tensor("int64", json!(["batch", 7])), "dense": tensor("float32", json!(["batch", 3]))},
            "outputs": {"logit": tensor("float32", json!(["batch"]))}},
        "hash": {"scheme": "aibuyer-hash-v1"},
        "table_rows": 200,
        "fields": [
            {"name": "country", "kind": "categorical", "source": {"kind": "request", "key": "geo"},
             "encoding": {"type": "vocabulary", "file": "v.jsonl"}, "normalize": ["trim_ascii", "ascii_lower"],
             "row_offset": 10, "rows": 6, "slots": [4]},
            {"name": "site", "kind": "categorical", "source": {"kind": "request", "key": "site"},
             "encoding": {"type": "hash", "scheme": "aibuyer-hash-v1", "buckets": 97},
             "row_offset": 16, "rows": 99, "slots": [0], "missing": "reject"},
            {"name": "strict", "kind": "categorical", "source": {"kind": "request", "key": "strict"},
             "encoding": {"type": "vocabulary", "file": "v.jsonl"},
             "row_offset": 0, "rows": 6, "slots": [6], "oov": "reject"},
            {"name": "tokens", "kind": "categorical",
             "source": {"kind": "feature_store", "entity": "ad", "entity_key": "ad_id", "feature": "words"},
             "encoding": {"type": "hash", "scheme": "aibuyer-hash-v1", "buckets": 13}, "normalize": ["ascii_lower"],
             "row_offset": 120, "rows": 15, "slots": [1, 2, 3],
             "multi": {"max_values": 3, "truncate": "keep_first", "pooling": "masked_mean"}},
            {"name": "age", "kind": "numeric", "source": {"kind": "request", "key": "age"}, "default": 30.0,
             "transforms": [{"op": "clip", "min": 0.0, "max": 90.0}, {"op": "bucketize", "boundaries": [18.0, 25.0, 65.0]}],
             "row_offset": 140, "rows": 6, "slots": [5]},
            {"name": "price", "kind": "numeric", "source": {"kind": "request", "key": "price"}, "column": 2, "default": 3.5,
             "transforms": [{"op": "log1p"}, {"op": "standardize", "mean": 1.25, "std": 0.75}]},
            {"name": "score", "kind": "numeric", "source": {"kind": "request", "key": "score"}, "column": 0, "default": 0.0,
             "transforms": [{"op": "clip", "min": -2.0, "max": 1e39}]},
            {"name": "flag", "kind": "numeric", "source": {"kind": "request", "key": "flag"}, "column": 1, "default": 0.0}
        ],
        "golden": {"file": "g.jsonl", "logit_abs_tol": 1e-4, "variance_rel_tol": 1e-3},
        "files_sha256": {"model.onnx": hex, "g.jsonl": hex, "v.jsonl": hex}
    })
}

/// A candidate's raw values; `None` is missing.
#[derive(Debug, Clone)]
struct Raw {
    geo: Option<String>,
    site: Option<i64>,
    strict: Option<String>,
    tokens: Option<Vec<String>>,
    age: Option<f64>,
    price: Option<f64>,
    score: Option<f64>,
    flag: Option<bool>,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("de".to_owned()),
        Just(" DE\t".to_owned()),
        Just("Übersee".to_owned()),
        Just(String::new()),
        Just("\u{b}de".to_owned()),
        Just("\u{a0}".to_owned()),
        Just(" \n".to_owned()),
        "\\PC{0,12}",
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![-3.0..100.0, Just(18.0), Just(65.0), Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), any::<f64>()]
}

fn raw() -> impl Strategy<Value = Raw> {
    let o = proptest::option::of::<BoxedStrategy<String>>;
    (
        o(text().boxed()),
        proptest::option::weighted(0.9, any::<i64>()),
        o(prop_oneof![Just("de".to_owned()), Just("fr".to_owned()), Just("xx".to_owned())].boxed()),
        proptest::option::of(proptest::collection::vec(text(), 0..6)),
        proptest::option::of(number()),
        proptest::option::of(number()),
        proptest::option::of(number()),
        proptest::option::of(any::<bool>()),
    )
        .prop_map(|(geo, site, strict, tokens, age, price, score, flag)| Raw {
            geo,
            site,
            strict,
            tokens,
            age,
            price,
            score,
            flag,
        })
}

/// The contract, read slowly: ids and dense of one row, or `None` where the row must be rejected.
fn slow(spec: &Value, raw: &Raw) -> Option<(Vec<i64>, Vec<f32>)> {
    let (mut ids, mut dense) = (vec![-1; 7], vec![f32::NAN; 3]);
    for f in spec["fields"].as_array().unwrap() {
        let name = f["name"].as_str().unwrap();
        let offset = f["row_offset"].as_i64().unwrap_or(0);
        if f["kind"] == "categorical" {
            let values: Vec<String> = match name {
                "country" => raw.geo.clone().into_iter().collect(),
                "site" => raw.site.map(|i| i.to_string()).into_iter().collect(),
                "strict" => raw.strict.clone().into_iter().collect(),
                _ => raw.tokens.clone().unwrap_or_default(),
            };
            let slots = f["slots"].as_array().unwrap();
            let mut any = false;
            for (i, slot) in slots.iter().enumerate() {
                let mut value = values.get(i).cloned().unwrap_or_default();
                for step in f["normalize"].as_array().into_iter().flatten() {
                    value = match step.as_str().unwrap() {
                        "trim_ascii" => value.trim_matches(['\t', '\n', '\u{c}', '\r', ' ']).to_owned(),
                        _ => value
                            .chars()
                            .map(|c| if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c })
                            .collect(),
                    };
                }
                let row = if value.is_empty() {
                    0
                } else if let Some(buckets) = f["encoding"]["buckets"].as_u64() {
                    let message = [name.as_bytes(), b"\x1f", value.as_bytes()].concat();
                    2 + (xxh3_64(&message) % buckets) as i64
                } else {
                    match COUNTRIES.iter().position(|c| *c == value) {
                        Some(line) => 2 + line as i64,
                        None if f["oov"] == "reject" => return None,
                        None => 1,
                    }
                };
                any |= !value.is_empty();
                ids[slot.as_u64().unwrap() as usize] = offset + row;
            }
            if !any && f["missing"] == "reject" {
                return None;
            }
        } else {
            let value = match name {
                "age" => raw.age,
                "price" => raw.price,
                "score" => raw.score,
                _ => raw.flag.map(|b| if b { 1.0 } else { 0.0 }),
            };
            let mut x = value.unwrap_or(f["default"].as_f64().unwrap());
            if x.is_nan() || x.is_infinite() {
                return None;
            }
            let mut bucket = None;
            for t in f["transforms"].as_array().into_iter().flatten() {
                let n = |key: &str| t[key].as_f64().unwrap();
                match t["op"].as_str().unwrap() {
                    "clip" => {
                        x = if x < n("min") {
                            n("min")
                        } else if x > n("max") {
                            n("max")
                        } else {
                            x
                        }
                    }
                    "log1p" if x < 0.0 => return None,
                    "log1p" => x = libm::log1p(x),
                    "standardize" => x = (x - n("mean")) / n("std"),
                    _ => {
                        let boundaries = t["boundaries"].as_array().unwrap();
                        bucket = Some(boundaries.iter().filter(|b| b.as_f64().unwrap() <= x).count());
                    }
                }
            }
            match bucket {
                Some(b) => ids[f["slots"][0].as_u64().unwrap() as usize] = offset + 2 + b as i64,
                None if !(x as f32).is_finite() => return None,
                None => dense[f["column"].as_u64().unwrap() as usize] = x as f32,
            }
        }
    }
    Some((ids, dense))
}

fn gaps<T>(values: &[Option<T>]) -> Vec<u32> {
    (0..values.len() as u32).filter(|i| values[*i as usize].is_none()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn encodes_as_the_contract_reads(rows in proptest::collection::vec(raw(), 1..9)) {
        let json = spec_json();
        let spec = FeatureSpec::parse(json.to_string().as_bytes()).unwrap();
        let vocabulary: String = COUNTRIES.iter().map(|c| format!("{}\n", Value::from(*c))).collect();
        let encoder =
            Encoder::new(&spec, |_, n| Ok::<_, SpecError>(Vocabulary::parse(&vocabulary, n).unwrap())).unwrap();

        macro_rules! column {
            ($field:ident) => {{
                let all: Vec<_> = rows.iter().map(|r| r.$field.clone()).collect();
                (gaps(&all), all.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
            }};
        }
        let (geo, site, strict, tokens) = (column!(geo), column!(site), column!(strict), column!(tokens));
        let (age, price, score, flag) = (column!(age), column!(price), column!(score), column!(flag));
        let lengths: Vec<u32> = tokens.1.iter().map(|l| l.len() as u32).collect();
        let flat: StringArray = tokens.1.concat().into_iter().collect();
        let array = |all: &[String]| all.iter().collect::<StringArray>();
        let (geos, stricts) = (array(&geo.1), array(&strict.1));
        let columns = [
            Column { name: "tokens", values: Values::StringLists { values: flat.as_slice(), lengths: &lengths }, missing: &tokens.0 },
            Column { name: "price", values: Values::Doubles(&price.1), missing: &price.0 },
            Column { name: "geo", values: Values::Strings(geos.as_slice()), missing: &geo.0 },
            Column { name: "flag", values: Values::Bools(&flag.1), missing: &flag.0 },
            Column { name: "site", values: Values::Int64s(&site.1), missing: &site.0 },
            Column { name: "strict", values: Values::Strings(stricts.as_slice()), missing: &strict.0 },
            Column { name: "age", values: Values::Doubles(&age.1), missing: &age.0 },
            Column { name: "score", values: Values::Doubles(&score.1), missing: &score.0 },
        ];
        let got = encoder.encode(&[], &columns, rows.len()).unwrap();

        let want: Vec<_> = rows.iter().map(|r| slow(&json, r)).collect();
        let rejected: Vec<usize> = got.rejected.iter().map(|r| r.candidate).collect();
        let expected: Vec<usize> = (0..rows.len()).filter(|i| want[*i].is_none()).collect();
        prop_assert_eq!(rejected, expected);
        let (ids, dense): (Vec<_>, Vec<_>) = want.into_iter().flatten().unzip();
        prop_assert_eq!(got.rows.len, ids.len());
        prop_assert_eq!(got.rows.ids, ids.concat());
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&got.rows.dense), bits(&dense.concat()));

        // The same rows, sent one at a time as context with one bare candidate, give the same tensors.
        for (i, row) in rows.iter().enumerate() {
            let single = |v: Vec<u32>| if v.contains(&(i as u32)) { vec![0] } else { vec![] };
            let list = array(&row.tokens.clone().unwrap_or_default());
            let missing: Vec<Vec<u32>> = columns.iter().map(|c| single(c.missing.to_vec())).collect();
            let length = [list.as_slice().len() as u32];
            let context: Vec<Column> = columns.iter().zip(&missing).map(|(c, missing)| Column {
                name: c.name,
                missing,
                values: match c.values {
                    Values::Strings(v) => Values::Strings(v.range(i..i + 1)),
                    Values::Int64s(v) => Values::Int64s(&v[i..=i]),
                    Values::Doubles(v) => Values::Doubles(&v[i..=i]),
                    Values::Bools(v) => Values::Bools(&v[i..=i]),
                    Values::StringLists { .. } => Values::StringLists { values: list.as_slice(), lengths: &length },
                },
            }).collect();
            match (encoder.encode(&context, &[], 3), slow(&json, row)) {
                (Ok(got), Some((ids, dense))) => {
                    prop_assert_eq!(got.rows.ids, [&ids[..]; 3].concat());
                    prop_assert_eq!(bits(&got.rows.dense), bits(&[&dense[..]; 3].concat()));
                }
                (Err(_), None) => {}
                (got, want) => prop_assert!(false, "{got:?} {want:?}"),
            }
        }
    }
}
