//! The requests that the load is made of.

use aibuyer_domain::ctr::Rows;
use aibuyer_proto::serving::v1 as pb;

/// How features travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Named columns.
    Named,
    /// Named columns, many requests on each stream.
    Streamed,
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
const IDS: i64 = 26;
const NUMBERS: usize = 13;
const ROWS: i64 = 38_462;

impl Scenario {
    /// The request that every caller sends.
    pub(crate) fn request(self) -> AnyRequest {
        match self.form {
            Form::Named | Form::Streamed => AnyRequest::Named(named(self.model, self.candidates)),
            Form::Encoded => AnyRequest::Encoded(encoded(self.model, self.candidates)),
        }
    }

    /// The same load, each request a call of its own.
    pub(crate) fn called(self) -> Self {
        let form = if self.form == Form::Streamed { Form::Named } else { self.form };
        Self { form, ..self }
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

/// Numbers that spread: caches meet their worst case, as skewed traffic never is.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn id(&mut self, low: u32, high: u32) -> u32 {
        low + self.next() % (high - low + 1)
    }

    fn dense(&mut self) -> f32 {
        self.next() as f32 / 8e6 - 1.0
    }
}

/// Rows within the bounds of each slot.
pub(crate) fn random_rows(bounds: &[(i64, i64)], columns: usize, rows: usize) -> Rows {
    let mut random = Random(7);
    let narrow = |id: i64| u32::try_from(id).unwrap();
    let mut all = Rows { len: rows, ..Rows::default() };
    for _ in 0..rows {
        all.ids.extend(bounds.iter().map(|(low, high)| i64::from(random.id(narrow(*low), narrow(*high)))));
        all.dense.extend((0..columns).map(|_| random.dense()));
    }
    all
}

fn encoded(model: &str, candidates: usize) -> pb::PredictCtrEncodedRequest {
    let bounds: Vec<(i64, i64)> = (0..IDS).map(|slot| (slot * ROWS, (slot + 1) * ROWS - 1)).collect();
    let rows = random_rows(&bounds, NUMBERS, candidates);
    let ids: Vec<u8> = rows.ids.iter().flat_map(|id| u32::try_from(*id).unwrap().to_le_bytes()).collect();
    let dense: Vec<u8> = rows.dense.iter().flat_map(|x| x.to_le_bytes()).collect();
    pb::PredictCtrEncodedRequest {
        model: selector(model),
        candidate_count: u32::try_from(candidates).unwrap(),
        candidate_ids: ids.into(),
        candidate_dense: dense.into(),
        ..Default::default()
    }
}
