//! The encoder against a model that another toolchain trained and encoded (Upworthy Research Archive,
//! CC BY 4.0; see `testdata/README.md`).

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use aibuyer_domain::ctr::{Calibration, Encoder, FeatureSpec, SpecError, Vocabulary, golden};

fn read(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/example-artifact").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn encoder() -> (FeatureSpec, Encoder) {
    let spec = FeatureSpec::parse(read("feature_spec.json").as_bytes()).unwrap();
    let vocabulary = |file: &str, rows| Ok::<_, SpecError>(Vocabulary::parse(&read(file), rows).unwrap());
    let encoder = Encoder::new(&spec, vocabulary).unwrap();
    (spec, encoder)
}

#[test]
fn every_golden_row_is_reproduced() {
    let (spec, encoder) = encoder();
    assert_eq!((spec.slots(), spec.columns(), spec.has_variance()), (19, 6, true));
    let examples = golden::parse(&read("golden.jsonl")).unwrap();
    assert_eq!(examples.len(), 7);
    let rows = golden::check_encoding(&encoder, &examples).unwrap();
    assert_eq!((rows.len, rows.ids.len(), rows.dense.len()), (7, 7 * 19, 7 * 6));
    golden::check_estimates(&examples).unwrap();
    // Its trainer standardized in float32; in double precision with one cast the columns agree to the last
    // unit in the last place, not always to the bit.
    let stored = read("golden.jsonl").lines().flat_map(stored_dense).collect::<Vec<f32>>();
    let apart = rows.dense.iter().zip(&stored).map(|(a, b)| a.to_bits().abs_diff(b.to_bits()));
    assert!(apart.max().unwrap() <= 1);
}

fn stored_dense(line: &str) -> Vec<f32> {
    let example: serde_json::Value = serde_json::from_str(line).unwrap();
    serde_json::from_value(example["dense"].clone()).unwrap()
}

#[test]
fn calibration_is_readable() {
    let calibration: Calibration = serde_json::from_str(&read("calibration.json")).unwrap();
    assert_eq!(calibration.units["cold_test"], 1523);
    assert!(calibration.oov_variance.is_empty());
}

#[test]
fn a_wrong_golden_row_is_found_and_named() {
    let (_, encoder) = encoder();
    let text = read("golden.jsonl").replacen("\"ids\": [1, ", "\"ids\": [2, ", 1);
    let error = golden::check_encoding(&encoder, &golden::parse(&text).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "golden example 2: ids[0] is 1 as encoded here, 2 in the file");
    let error = golden::parse("").unwrap_err();
    assert!(error.to_string().contains("the file is empty"), "{error}");
}

/// Each edit of a good spec must be refused with a message that names the place.
#[test]
fn contradictory_specs_are_refused() {
    let good = read("feature_spec.json");
    assert!(FeatureSpec::parse(good.as_bytes()).is_ok());
    let cases = [
        ("\"contract_version\": 1", "\"contract_version\": 2", "contract_version 2"),
        ("\"kind\": \"ctr\"", "\"kind\": \"cvr\"", "model.kind"),
        ("\"aibuyer-hash-v1\",\n  \"algorithm\"", "\"murmur3\",\n  \"algorithm\"", "hash.scheme"),
        ("\"table_rows\": 14891", "\"table_rows\": 14890", "reach past table_rows 14890"),
        ("\"row_offset\": 4205", "\"row_offset\": 4204", "shares table rows with \"test_id\""),
        ("\"name\": \"week\"", "\"name\": \"test_id\"", "stands twice"),
        ("\"key\": \"week\"", "\"key\": \"test_id\"", "shares the input \"test_id\""),
        ("\"buckets\": 4096", "\"buckets\": 4095", "needs buckets + 2"),
        ("\"max_values\": 16", "\"max_values\": 15", "has 16 slots, needs 15"),
        ("\"column\": 5", "\"column\": 4", "column 4 of `dense` a second time"),
        ("\"column\": 5", "\"column\": 6", "column 6 of `dense`, which has 6"),
        ("     19\n", "     20\n", "none fills column 19 of `ids`"),
        ("\"std\": 14.654324531555176", "\"std\": 0.0", "transforms[0]"),
        ("\"default_level\": 0.9", "\"default_level\": 1.0", "interval.default_level"),
        ("\"logit_abs_tol\": 0.0001", "\"logit_abs_tol\": -1.0", "golden"),
        ("\"normalize\": []", "\"normalise\": []", "unknown field `normalise`"),
        ("\"normalize\": []", "\"log\": \"hide\"", "unknown variant `hide`, expected one of `keep`, `hash`, `drop`"),
        ("\"model.onnx\": \"ab11", "\"model.onnx\": \"AB11", "lower-case hex"),
        ("\"model.onnx\": \"ab11", "\"../model.onnx\": \"ab11", "plain path"),
        ("\"golden.jsonl\": \"c42c", "\"golden2.jsonl\": \"c42c", "lacks \"golden.jsonl\""),
        ("     19\n", "     10000000000000\n", "must be int64 [\"batch\", 1 to 65536]"),
        ("\"op\": \"standardize\"", "\"op\": \"log1p\"", "unknown field `mean`"),
        ("\"dtype\": \"int64\"", "\"dtype\": \"int32\"", "model.inputs.ids"),
        ("\"logit_variance\": {", "\"variance\": {", "model.outputs.variance"),
    ];
    for (from, to, expect) in cases {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let error = FeatureSpec::parse(bad.as_bytes()).expect_err(to).to_string();
        assert!(error.contains(expect), "{to}: {error}");
    }
}
