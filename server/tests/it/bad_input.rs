//! Requests that are wrong: each gets a clear status, and the server answers the next one.

use aibuyer_proto::serving::v1::{self as pb, candidate_error::Kind, model_selector::Pick};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{MODEL, Server, doubles, int64s, lists, ready, repository, selector, strings, two};

async fn server() -> Server {
    ready(&repository().join("models"), &["limits.max_message_bytes=200000"]).await
}

/// The field and description of each violation.
fn violations(status: &Status) -> Vec<(String, String)> {
    let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("no violations in {status:?}"));
    bad.field_violations.into_iter().map(|v| (v.field, v.description)).collect()
}

#[tokio::test]
async fn a_wrong_request_names_the_field_and_the_cure() {
    let server = server().await;
    let with = |column: pb::Column| pb::PredictCtrRequest { candidates: vec![column], ..two() };
    let with_only = |column: pb::Column| pb::PredictCtrRequest { context: vec![], candidates: vec![column], ..two() };
    let in_context = |column: pb::Column| pb::PredictCtrRequest { context: vec![column], ..two() };
    let one = |column: pb::Column| pb::PredictCtrRequest {
        model: selector(),
        candidates: vec![column],
        ..Default::default()
    };
    let missing = |row: u32| pb::Column { missing: vec![row], ..int64s("headline_chars", &[1, 2]) };
    let short_lists = || {
        let mut column = lists("headline", &[&["a"], &["b"]]);
        if let Some(pb::column::Values::StringLists(v)) = &mut column.values {
            v.lengths = vec![1, 2];
        }
        column
    };
    let cases = [
        (
            "unknown feature",
            with(strings("headlin", &["a", "b"])),
            "candidates[\"headlin\"]",
            "it has eyecatcher_id, has_digit",
        ),
        ("wrong type", with(strings("headline_chars", &["a", "b"])), "candidates[\"headline_chars\"]", "takes doubles"),
        ("fractions as ids", in_context(doubles("week", &[1.5])), "context[\"week\"]", "takes strings"),
        (
            "uneven columns",
            with(int64s("headline_chars", &[1, 2, 3])),
            "candidates[\"headline_chars\"]",
            "has 3 rows, needs 2",
        ),
        ("two rows of context", in_context(strings("week", &["a", "b"])), "context[\"week\"]", "has 2 rows, needs 1"),
        (
            "a column twice",
            in_context(int64s("headline_chars", &[1])),
            "candidates[\"headline_chars\"]",
            "stands twice",
        ),
        ("lists that do not add up", with(short_lists()), "candidates[\"headline\"]", "its lengths add up to 3"),
        (
            "a missing row that is not there",
            with(missing(2)),
            "candidates[\"headline_chars\"]",
            "names row 2 as missing",
        ),
        (
            "no values",
            with(pb::Column { values: None, ..strings("week", &[]) }),
            "candidates[\"week\"]",
            "has no values",
        ),
        (
            "no values in the first column",
            with_only(pb::Column { values: None, ..strings("week", &[]) }),
            "candidates[\"week\"]",
            "has no values",
        ),
        ("no column name", with(strings("", &["a", "b"])), "candidates[0].name", "is empty"),
        (
            "NaN in the context",
            in_context(doubles("has_digit", &[f64::NAN])),
            "context[\"has_digit\"]",
            "not a finite number",
        ),
        ("NaN alone", one(doubles("has_digit", &[f64::NAN])), "candidates[\"has_digit\"][0]", "not a finite number"),
        (
            "a negative count alone",
            one(int64s("headline_words", &[-1])),
            "candidates[\"headline_words\"][0]",
            "negative",
        ),
        (
            "infinity alone",
            one(doubles("headline_chars", &[f64::INFINITY])),
            "candidates[\"headline_chars\"][0]",
            "finite",
        ),
        ("beyond float32, alone", one(doubles("has_digit", &[1e300])), "candidates[\"has_digit\"][0]", "32-bit float"),
        ("no candidates", pb::PredictCtrRequest { candidates: vec![], ..two() }, "candidates", "no candidates"),
        ("0 candidates", pb::PredictCtrRequest { candidate_count: Some(0), ..two() }, "candidates", "no candidates"),
        (
            "10,001 candidates",
            pb::PredictCtrRequest { candidate_count: Some(10_001), candidates: vec![], ..two() },
            "candidates",
            "more than the 10000",
        ),
        ("a level of 1", pb::PredictCtrRequest { interval_level: Some(1.0), ..two() }, "interval_level", "below 1"),
        (
            "a level of NaN",
            pb::PredictCtrRequest { interval_level: Some(f64::NAN), ..two() },
            "interval_level",
            "above 0",
        ),
        ("no model", pb::PredictCtrRequest { model: None, ..two() }, "model.name", "there are: ctr-upworthy"),
    ];
    for (name, request, field, expect) in cases {
        // Rows of the other columns must fit where a case brings three.
        let candidate_count = request.candidate_count.or((!request.candidates.is_empty()).then_some(2));
        let request = match name {
            n if n.ends_with("alone") => request,
            _ => pb::PredictCtrRequest { candidate_count, ..request },
        };
        let status = server.predict(request).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        let found = violations(&status);
        assert!(found.iter().any(|(f, d)| f == field && d.contains(expect)), "{name}: {found:?}");
        assert!(status.message().contains(field), "{name}: {}", status.message());
        server.predict(two()).await.expect("the server is unharmed");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let server = server().await;
    let request =
        pb::PredictCtrRequest { context: vec![strings("wek", &["201303"]), strings("has_digit", &["no"])], ..two() };
    let status = server.predict(request).await.unwrap_err();
    assert_eq!(violations(&status).len(), 2);
    assert!(status.message().ends_with("(and 1 more)"), "{}", status.message());
}

#[tokio::test]
async fn a_bad_candidate_does_not_harm_its_neighbours() {
    let server = server().await;
    let mut request = two();
    let good = server.predict(request.clone()).await.unwrap().predictions;
    request.candidates = vec![
        lists("headline", &[&["x"], &["a", "dog", "learns", "to", "fly"], &["y"], &["you", "wont", "believe", "this"]]),
        doubles("headline_chars", &[f64::NAN, 22.0, -3.0, 21.0]),
        int64s("headline_words", &[-1, 5, 3, 4]),
    ];
    let got = server.predict(request).await.unwrap().predictions;
    assert_eq!([&got[1], &got[3]], [&good[0], &good[1]]);
    let error = |i: usize| got[i].error.clone().unwrap();
    assert_eq!((error(0).field.as_str(), error(0).kind()), ("headline_chars", Kind::InvalidFeature));
    assert!(error(0).reason.contains("NaN"), "{}", error(0).reason);
    assert!(error(2).reason.contains("-3 is negative"), "{}", error(2).reason);
    assert!(got[0].ctr.is_none() && got[0].ctr_lower.is_none());
}

/// Details travel in headers, of which clients take 8 kB and more: an error must not break the connection.
#[tokio::test]
async fn an_error_about_ten_thousand_candidates_arrives() {
    let server = server().await;
    let model = |name: &str| Some(pb::ModelSelector { name: name.to_owned(), pick: None });
    let negative = pb::PredictCtrRequest {
        model: selector(),
        candidates: vec![int64s("headline_words", &[-1; 10_000])],
        ..Default::default()
    };
    let status = server.predict(negative).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(violations(&status).len(), 16);
    assert!(status.message().ends_with("(and 9999 more)"), "{}", status.message());

    let long = "x".repeat(100_000);
    let columns = (0..100).map(|i| strings(&format!("{i}{}", &long[..1000]), &["a"])).collect();
    for request in [
        pb::PredictCtrRequest { context: columns, ..two() },
        pb::PredictCtrRequest { model: model(&long), ..two() },
        pb::PredictCtrRequest { context: vec![strings(&long, &["a"])], ..two() },
    ] {
        let status = server.predict(request).await.unwrap_err();
        assert!([Code::InvalidArgument, Code::NotFound].contains(&status.code()), "{status:?}");
    }
}

#[tokio::test]
async fn unknown_models_versions_and_aliases_are_not_found() {
    let server = server().await;
    let ask = |name: &str, pick: Option<Pick>| {
        let model = Some(pb::ModelSelector { name: name.to_owned(), pick });
        server.predict(pb::PredictCtrRequest { model, ..two() })
    };
    for (name, pick, expect) in [
        ("ctr-upworth", None, "there are: ctr-upworthy"),
        ("../ctr-upworthy", None, "there are: ctr-upworthy"),
        (MODEL, Some(Pick::Version(7)), "no version 7; it has versions 1"),
        (MODEL, Some(Pick::Alias("champion".to_owned())), "no alias champion; it has no aliases"),
    ] {
        let status = ask(name, pick).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(status.message().contains(expect), "{}", status.message());
    }
    for pick in [Pick::Version(0), Pick::Alias("latest".to_owned()), Pick::Alias("a b".to_owned())] {
        let status = ask(MODEL, Some(pick)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

#[tokio::test]
async fn an_oversize_message_is_resource_exhausted_and_says_the_limit() {
    let server = server().await;
    let big = "x".repeat(300_000);
    let status = server.predict(pb::PredictCtrRequest { context: vec![strings("week", &[&big])], ..two() }).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("200000 bytes"), "{}", status.message());
    server.predict(two()).await.expect("the server is unharmed");
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("rpc_response_status_code=\"RESOURCE_EXHAUSTED\""), "counted as the caller saw it");
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_not_computed() {
    let models = repository().join("models");
    let server = ready(&models, &["limits.default_deadline=1ms"]).await;
    // Ten thousand candidates take longer than a millisecond to decode and encode: it is over before the queue.
    let headlines: Vec<&[&str]> = vec![&["a", "dog", "learns", "to", "fly"]; 10_000];
    let request = pb::PredictCtrRequest {
        candidates: vec![lists("headline", &headlines)],
        model: selector(),
        ..Default::default()
    };
    let status = server.predict(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("rpc_response_status_code=\"DEADLINE_EXCEEDED\""), "{metrics}");
    assert!(metrics.contains("aibuyer_batches_total{model=\"ctr-upworthy\",version=\"1\"} 0"), "{metrics}");
}
