//! From a request to rows: who is who, and what of the features may be read.

use std::sync::Arc;

use aibuyer_domain::ctr::FeatureSpec;
use aibuyer_features::sink::PredictionRows;
use aibuyer_proto::serving::v1::{self as pb, column::Values};
use serde_json::{Value, json};

use super::{
    fake::{Row, decode},
    request,
};
use crate::prediction_log::{Inputs, LoggedRequest, StoredRow, ViewAges};

fn rows(request: &LoggedRequest, payload: bool) -> Vec<Row> {
    let mut rows = PredictionRows::default();
    request.each(payload, |row| assert!(row.is_none_or(|row| rows.push(row, 10_000))));
    decode(&rows.into_bytes())
}

fn column(name: &str, values: Values, missing: Vec<u32>) -> pb::Column {
    pb::Column { name: name.to_owned(), values: Some(values), missing }
}

fn strings(name: &str, values: &[&str]) -> pb::Column {
    let values = values.iter().collect();
    column(name, Values::Strings(pb::StringValues { values }), vec![])
}

/// Context and candidates of three, with a value for each kind of feature.
fn columns() -> (Vec<pb::Column>, Vec<pb::Column>) {
    let lists = pb::StringListValues { values: ["a", "dog", "a"].iter().collect(), lengths: vec![2, 0, 1] };
    let candidates = vec![
        column("headline", Values::StringLists(lists), vec![]),
        column("headline_chars", Values::Int64s(pb::Int64Values { values: vec![22, 7, 9] }), vec![1]),
        column("campaign_id", Values::Int64s(pb::Int64Values { values: vec![5, 6, 7] }), vec![2]),
    ];
    (vec![strings("week", &["201303"]), strings("user_id", &["ann"])], candidates)
}

/// The demo model's spec with `log` set for some fields.
fn spec(policies: &[(&str, &str)]) -> Arc<FeatureSpec> {
    let mut json: Value =
        serde_json::from_slice(include_bytes!("../../../../models/ctr-upworthy/1/feature_spec.json")).unwrap();
    for field in json["fields"].as_array_mut().unwrap() {
        if let Some((_, policy)) = policies.iter().find(|(name, _)| field["name"] == *name) {
            field["log"] = json!(policy);
        }
    }
    Arc::new(FeatureSpec::parse(json.to_string().as_bytes()).unwrap())
}

fn texts(row: &Row) -> Vec<(&str, &str)> {
    row.texts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// `xxh3_64` of "201303", "a", "dog" and "ann", as any other library gives them.
const WEEK: &str = "125c15956790fe1c";
const A: &str = "e6c632b61e964e1f";
const DOG: &str = "802c9dc0909e32b7";
const ANN: &str = "482c89484cbd62c8";

#[test]
fn without_payload_only_account_and_campaign_are_kept() {
    let (context, candidates) = columns();
    let inputs = Inputs::new(context, candidates, false);
    let rows = rows(&LoggedRequest { inputs, ..request("r", 3) }, false);
    let ids: Vec<_> = rows.iter().map(|row| (row.user_id.as_str(), row.campaign_id.as_str())).collect();
    assert_eq!(ids, [("ann", "5"), ("ann", "6"), ("ann", "")]);
    assert!(rows.iter().all(|row| row.numbers.is_empty() && row.texts.is_empty()));
    assert_eq!((rows[2].candidate, rows[2].version.as_str(), rows[2].score, rows[2].lower), (2, "1", 0.5, None));
}

#[test]
fn with_payload_numbers_are_kept_and_text_is_hashed() {
    let (context, candidates) = columns();
    let inputs = Inputs::new(context, candidates, true);
    let rows = rows(&LoggedRequest { inputs, ..request("r", 3) }, true);
    let list = |hashes: &[&str]| json!(hashes).to_string();
    let campaign = |row: &Row| row.texts.iter().find(|(name, _)| name == "campaign_id").map(|(_, value)| value.clone());
    assert_eq!(rows[0].numbers, [("headline_chars".to_owned(), 22.0)]);
    let first = campaign(&rows[0]).unwrap();
    let wanted = [("week", WEEK), ("user_id", ANN), ("headline", &list(&[A, DOG])), ("campaign_id", &first)];
    assert_eq!(texts(&rows[0]), wanted);
    // What is missing is not there.
    assert_eq!((&rows[1].numbers, texts(&rows[1]).len()), (&vec![], 3));
    assert_eq!((campaign(&rows[2]), texts(&rows[2])[2]), (None, ("headline", list(&[A]).as_str())));
    // No value of a text can be read anywhere.
    let readable = format!("{:?}", rows.iter().map(|row| &row.texts).collect::<Vec<_>>());
    assert!(!readable.contains("201303") && !readable.contains("dog") && !readable.contains("ann"), "{readable}");
}

#[test]
fn the_spec_says_what_is_kept_hashed_or_dropped() {
    let (context, candidates) = columns();
    let inputs = Inputs::new(context, candidates, true);
    let spec = spec(&[("week", "keep"), ("headline", "keep"), ("headline_chars", "hash")]);
    let kept = rows(&LoggedRequest { inputs: inputs.clone(), spec, ..request("r", 3) }, true);
    assert_eq!(texts(&kept[0])[..3], [("week", "201303"), ("user_id", ANN), ("headline", "[\"a\",\"dog\"]")]);
    assert_eq!((texts(&kept[0])[3].0, texts(&kept[0])[3].1.len(), kept[0].numbers.len()), ("headline_chars", 16, 0));
    let spec = self::spec(&[("week", "drop"), ("headline", "drop"), ("headline_chars", "drop")]);
    let dropped = rows(&LoggedRequest { inputs, spec, ..request("r", 3) }, true);
    assert_eq!(dropped[0].texts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["user_id", "campaign_id"]);
    assert_eq!(dropped[0].numbers, []);
}

#[test]
fn an_account_or_campaign_is_hashed_or_dropped_where_its_field_says_so() {
    let spec = |policy: &str| {
        let json = include_str!("../../../../models/ctr-upworthy/1/feature_spec.json");
        let mut json: Value = serde_json::from_str(json).unwrap();
        let week = json["fields"].as_array_mut().unwrap().iter_mut().find(|field| field["name"] == "week").unwrap();
        (week["source"]["key"], week["log"]) = (json!("user_id"), json!(policy));
        Arc::new(FeatureSpec::parse(json.to_string().as_bytes()).unwrap())
    };
    for (policy, wanted) in [("keep", "ann"), ("hash", ANN), ("drop", "")] {
        let inputs = Inputs::new(vec![strings("user_id", &["ann"])], vec![], false);
        let rows = rows(&LoggedRequest { inputs, spec: spec(policy), ..request("r", 1) }, false);
        assert_eq!(rows[0].user_id, wanted);
    }
}

#[test]
fn rejected_candidates_have_no_row_and_the_others_keep_their_place() {
    let (context, candidates) = columns();
    let inputs = Inputs::new(context, candidates, false);
    let mut request = LoggedRequest { inputs, rejected: vec![0, 1, 4], ..request("r", 2) };
    request.outputs.logits = vec![0.0, -1.0];
    request.outputs.variances = Some(vec![0.1, 0.1]);
    request.inputs = Inputs::new(vec![], vec![strings("campaign_id", &["a", "b", "c", "d", "e"])], false);
    request.stored = vec![
        ViewAges { view: "user", rows: vec![StoredRow { age_ms: Some(70), defaults: false }] },
        ViewAges {
            view: "campaign",
            rows: (0..5).map(|i| StoredRow { age_ms: (i != 3).then_some(i * 100), defaults: i == 3 }).collect(),
        },
    ];
    let rows = rows(&request, false);
    let places: Vec<_> = rows.iter().map(|row| (row.candidate, row.campaign_id.as_str())).collect();
    assert_eq!(places, [(2, "c"), (3, "d")]);
    assert!(rows[0].lower.unwrap() < rows[0].score && rows[1].score < rows[0].score);
    let age = |view: &str, age| (view.to_owned(), age);
    assert_eq!(
        (&rows[0].ages, rows[0].oldest, rows[0].fallback),
        (&vec![age("user", 70), age("campaign", 200)], 200, false)
    );
    assert_eq!((&rows[1].ages, rows[1].oldest, rows[1].fallback), (&vec![age("user", 70)], 70, true));
}
