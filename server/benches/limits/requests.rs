//! The requests that the load is made of.

use aibuyer_proto::serving::v1 as pb;

/// How features travel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// Named columns.
    Named,
    /// Tensors as bytes.
    Encoded,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) model: &'static str,
    pub(crate) form: Form,
    /// In each request.
    pub(crate) candidates: usize,
    /// At once.
    pub(crate) callers: usize,
}

/// A request of either form.
#[derive(Debug, Clone)]
pub(crate) enum AnyRequest {
    Named(pb::PredictCtrRequest),
    Encoded(pb::PredictCtrEncodedRequest),
}

const HEADLINE: [&str; 12] =
    ["a", "dog", "learns", "to", "fly", "and", "nobody", "in", "town", "is", "surprised", "now"];
/// Of `ctr-criteo-shape`: hashed ids and numbers of a row, and table rows of each id.
const IDS: usize = 26;
const NUMBERS: usize = 13;
const ROWS: usize = 38_462;

impl Scenario {
    /// The request that every caller sends.
    pub(crate) fn request(self) -> AnyRequest {
        match self.form {
            Form::Named => AnyRequest::Named(named(self.model, self.candidates)),
            Form::Encoded => AnyRequest::Encoded(encoded(self.model, self.candidates)),
        }
    }
}

fn selector(model: &str) -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: model.to_owned(), pick: Some(pb::model_selector::Pick::Version(1)) })
}

/// Headlines as the demo model takes them.
fn named(model: &str, candidates: usize) -> pb::PredictCtrRequest {
    let column = |name: &str, values| pb::Column { name: name.to_owned(), values: Some(values), missing: vec![] };
    let strings = |values: Vec<String>| pb::column::Values::Strings(pb::StringValues { values });
    let ints = |f: &dyn Fn(usize) -> i64| {
        pb::column::Values::Int64s(pb::Int64Values { values: (0..candidates).map(f).collect() })
    };
    let words = (0..candidates).flat_map(|_| HEADLINE.map(str::to_owned)).collect();
    let lengths = vec![u32::try_from(HEADLINE.len()).unwrap(); candidates];
    pb::PredictCtrRequest {
        model: selector(model),
        context: vec![
            column("week", strings(vec!["201303".to_owned()])),
            column("test_id", strings(vec!["51436061220cb800020001e7".to_owned()])),
        ],
        candidates: vec![
            column("headline", pb::column::Values::StringLists(pb::StringListValues { values: words, lengths })),
            column("eyecatcher_id", strings((0..candidates).map(|i| format!("5332ba141fae79f09f00{i:04x}")).collect())),
            column("headline_chars", ints(&|i| 40 + i64::try_from(i).unwrap())),
            column("headline_words", ints(&|_| 12)),
            column("has_question", ints(&|i| i64::from(i % 3 == 0))),
        ],
        ..Default::default()
    }
}

/// Rows spread over the whole table, as skewed traffic never is: the caches' worst case.
fn encoded(model: &str, candidates: usize) -> pb::PredictCtrEncodedRequest {
    let mut seed = 7_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    let (mut ids, mut dense) = (Vec::new(), Vec::new());
    for _ in 0..candidates {
        for slot in 0..IDS {
            let row = slot * ROWS + 2 + random() as usize % (ROWS - 2);
            ids.extend(u32::try_from(row).unwrap().to_le_bytes());
        }
        for _ in 0..NUMBERS {
            dense.extend((random() as f32 / 8e6 - 1.0).to_le_bytes());
        }
    }
    pb::PredictCtrEncodedRequest {
        model: selector(model),
        candidate_count: u32::try_from(candidates).unwrap(),
        candidate_ids: ids.into(),
        candidate_dense: dense.into(),
        ..Default::default()
    }
}
