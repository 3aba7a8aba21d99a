//! Good requests.

use std::fs;

use aibuyer_proto::serving::v1 as pb;
use serde_json::Value;

use crate::harness::{MODEL, Models, doubles, int64s, lists, ready, repository, selector, strings, two};

/// A golden example's inputs as columns of one row.
fn columns(inputs: &Value) -> Vec<pb::Column> {
    let cell = |(name, value): (&String, &Value)| match value {
        Value::String(s) => strings(name, &[s]),
        Value::Number(n) if n.is_i64() => int64s(name, &[n.as_i64().unwrap()]),
        Value::Number(n) => doubles(name, &[n.as_f64().unwrap()]),
        Value::Bool(b) => int64s(name, &[i64::from(*b)]),
        Value::Array(items) => lists(name, &[&items.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>()]),
        other => panic!("{other}"),
    };
    inputs.as_object().unwrap().iter().filter(|(_, v)| !v.is_null()).map(cell).collect()
}

#[tokio::test]
async fn golden_examples_come_back_over_the_wire() {
    let server = ready(&repository().join("models"), &[]).await;
    let golden = fs::read_to_string(repository().join("models").join(MODEL).join("1/golden.jsonl")).unwrap();
    for line in golden.lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let request = pb::PredictCtrRequest {
            model: selector(),
            context: columns(&example["inputs"]),
            candidate_count: Some(3),
            include_timings: true,
            ..Default::default()
        };
        let reply = server.predict(request).await.unwrap();
        assert_eq!(reply.model, Some(pb::ServedModel { name: MODEL.to_owned(), version: 1 }));
        assert_eq!(reply.interval_level, Some(0.9));
        assert_eq!(reply.predictions.len(), 3);
        for p in reply.predictions {
            for (got, key) in [(p.ctr, "ctr"), (p.ctr_lower, "ctr_lower_90"), (p.ctr_upper, "ctr_upper_90")] {
                let (got, want) = (got.unwrap(), example[key].as_f64().unwrap());
                assert!((got / want - 1.0).abs() < 1e-5, "{key}: {got} {want}");
            }
        }
        let timings = reply.timings.unwrap();
        assert!(timings.compute_ns > 0 && timings.total_ns >= timings.encode_ns + timings.compute_ns);
        assert!(timings.batch_rows >= 3);
    }
}

#[tokio::test]
async fn what_is_true_for_all_may_stand_in_the_context_or_with_each_candidate() {
    let server = ready(&repository().join("models"), &[]).await;
    let in_context = server.predict(two()).await.unwrap();
    let mut request = two();
    request.context.clear();
    request.candidates.push(strings("week", &["201303", "201303"]));
    assert_eq!(server.predict(request).await.unwrap().predictions, in_context.predictions);
    assert_ne!(in_context.predictions[0], in_context.predictions[1]);
    assert_eq!(in_context.timings, None);
}

#[tokio::test]
async fn a_higher_level_gives_a_wider_interval_around_the_same_rate() {
    let server = ready(&repository().join("models"), &[]).await;
    let mut last: Option<pb::CtrPrediction> = None;
    for level in [0.5, 0.9, 0.99] {
        let reply = server.predict(pb::PredictCtrRequest { interval_level: Some(level), ..two() }).await.unwrap();
        assert_eq!(reply.interval_level, Some(level));
        let now = reply.predictions[0].clone();
        assert!(now.ctr_lower.unwrap() < now.ctr.unwrap() && now.ctr.unwrap() < now.ctr_upper.unwrap());
        if let Some(before) = last {
            assert_eq!(now.ctr, before.ctr);
            assert!(now.ctr_lower < before.ctr_lower && now.ctr_upper > before.ctr_upper);
        }
        last = Some(now);
    }
}

#[tokio::test]
async fn ten_thousand_candidates_come_back_in_order() {
    let server = ready(&repository().join("models"), &[]).await;
    let count = 10_000;
    let chars: Vec<i64> = (0..count).map(|i| i % 120).collect();
    let request = |chars: &[i64]| pb::PredictCtrRequest {
        model: selector(),
        candidates: vec![int64s("headline_chars", chars)],
        ..Default::default()
    };
    let reply = server.predict(request(&chars)).await.unwrap();
    assert_eq!(reply.predictions.len(), chars.len());
    for i in [0, 1, 63, 64, 4_999, 9_999] {
        let alone = server.predict(request(&chars[i..=i])).await.unwrap();
        assert!((alone.predictions[0].ctr.unwrap() / reply.predictions[i].ctr.unwrap() - 1.0).abs() < 1e-6, "{i}");
    }
}

#[tokio::test]
async fn a_model_without_variance_gives_no_interval_and_says_so() {
    let models = Models::empty();
    models.add(MODEL, 1, crate::versions::without_variance);
    let server = ready(models.path(), &[]).await;
    let reply = server.predict(two()).await.unwrap();
    assert_eq!(reply.interval_level, None);
    for p in reply.predictions {
        assert!(p.ctr.is_some() && p.ctr_lower.is_none() && p.ctr_upper.is_none() && p.error.is_none());
    }
}

#[tokio::test]
async fn a_priority_is_taken_and_one_that_does_not_exist_is_named() {
    let server = ready(&repository().join("models"), &[]).await;
    for priority in [pb::Priority::High, pb::Priority::Low] {
        let request = pb::PredictCtrRequest { priority: priority.into(), ..two() };
        assert_eq!(server.predict(request).await.unwrap().predictions.len(), 2);
    }
    let error = server.predict(pb::PredictCtrRequest { priority: 7, ..two() }).await.unwrap_err();
    assert!(error.message().contains("priority: 7 is not a priority: 1 high, 2 normal, 3 low"), "{error}");
}
