//! Requests made from a model's feature spec: real vocabularies, random keys, every request different.

use std::path::Path;

use aibuyer_proto::serving::v1::{self as pb, column::Values as Column};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, LogNormal, StandardNormal, Zipf};

use super::{
    PREDICT_CTR, PREDICT_CTR_ENCODED, Pool, RequestError,
    spec::{Feature, Kind, Spec, Values},
};

/// Different values of an id that has no vocabulary.
const ANY: u32 = 1_000_000;

/// How features travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Named columns.
    Named,
    /// Tensors as bytes.
    Encoded,
}

/// How ids are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// All alike: caches meet their worst case.
    Uniform,
    /// By Zipf's law, exponent 1: a few ids get most of the traffic, as they do in advertising.
    Zipf,
}

/// Requests to make.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// How features travel.
    pub form: Form,
    /// How ids are drawn.
    pub keys: Keys,
    /// In each request.
    pub candidates: u32,
    /// Features that are the same for all candidates of a request.
    pub context: Vec<String>,
    /// Different requests.
    pub count: usize,
    /// Chooses the values.
    pub seed: u64,
}

impl Synthetic {
    /// Makes requests for the version whose files are in `folder`.
    ///
    /// # Errors
    /// The folder has no readable feature spec, or `context` names a feature that is not in it.
    pub fn pool(&self, folder: &Path) -> Result<Pool, RequestError> {
        let spec = Spec::read(folder)?;
        if let Some(unknown) = self.context.iter().find(|name| !spec.features.iter().any(|f| f.name == **name)) {
            let names: Vec<&str> = spec.features.iter().map(|f| f.name.as_str()).collect();
            return Err(RequestError::Feature(unknown.clone(), names.join(", ")));
        }
        let mut draw = Draw { random: Xoshiro256PlusPlus::seed_from_u64(self.seed), keys: self.keys };
        let requests = (0..self.count).map(|_| match self.form {
            Form::Named => self.named(&spec, &mut draw).encode_to_vec(),
            Form::Encoded => self.encoded(&spec, &mut draw).encode_to_vec(),
        });
        let method = if self.form == Form::Named { PREDICT_CTR } else { PREDICT_CTR_ENCODED };
        Ok(Pool::new(method, requests, Some(f64::from(self.candidates))))
    }

    fn in_context(&self, feature: &Feature) -> bool {
        self.context.contains(&feature.name)
    }

    fn named(&self, spec: &Spec, draw: &mut Draw) -> pb::PredictCtrRequest {
        let mut request = pb::PredictCtrRequest {
            model: selector(spec),
            candidate_count: Some(self.candidates),
            ..Default::default()
        };
        for feature in &spec.features {
            let rows = if self.in_context(feature) { 1 } else { self.candidates };
            let values = Some(draw.column(feature, rows));
            let column = pb::Column { name: feature.name.clone(), values, missing: vec![] };
            if self.in_context(feature) { &mut request.context } else { &mut request.candidates }.push(column);
        }
        request
    }

    fn encoded(&self, spec: &Spec, draw: &mut Draw) -> pb::PredictCtrEncodedRequest {
        let (context, candidates): (Vec<_>, Vec<_>) = spec.features.iter().partition(|f| self.in_context(f));
        let (context_slots, context_ids) = draw.ids(&context, 1);
        let (context_columns, context_dense) = draw.dense(&context, 1);
        pb::PredictCtrEncodedRequest {
            model: selector(spec),
            candidate_count: self.candidates,
            context_slots,
            context_ids: context_ids.into(),
            candidate_ids: draw.ids(&candidates, self.candidates).1.into(),
            context_columns,
            context_dense: context_dense.into(),
            candidate_dense: draw.dense(&candidates, self.candidates).1.into(),
            ..Default::default()
        }
    }
}

/// The exact version, as rows of a vocabulary demand.
fn selector(spec: &Spec) -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: spec.model.clone(), pick: Some(pb::model_selector::Pick::Version(spec.version)) })
}

struct Draw {
    random: Xoshiro256PlusPlus,
    keys: Keys,
}

impl Draw {
    /// One of `0..count`.
    fn key(&mut self, count: u32) -> u32 {
        match (self.keys, Zipf::new(f64::from(count), 1.0)) {
            (Keys::Zipf, Ok(zipf)) => rank(zipf.sample(&mut self.random)).min(count - 1),
            _ => self.random.random_range(0..count),
        }
    }

    /// A table row. Ranks are scattered, as a hash scatters them: popular ids are no neighbours.
    fn row(&mut self, first: u32, rows: u32) -> u32 {
        first + self.key(rows).wrapping_mul(2_654_435_761) % rows
    }

    fn text(&mut self, values: &Values, prefix: &str) -> String {
        match values {
            Values::Known(known) if !known.is_empty() => {
                let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
                known[self.key(count) as usize].clone()
            }
            _ => format!("{prefix}{}", self.key(ANY)),
        }
    }

    fn column(&mut self, feature: &Feature, rows: u32) -> Column {
        match &feature.kind {
            Kind::Id { values, list: None, .. } => {
                let values = (0..rows).map(|_| self.text(values, &feature.name)).collect();
                Column::Strings(pb::StringValues { values })
            }
            Kind::Id { values, list: Some(longest), .. } => {
                let longest = u32::try_from(*longest).unwrap_or(u32::MAX);
                let lengths: Vec<u32> = (0..rows).map(|_| self.random.random_range(1..=longest)).collect();
                let total: u32 = lengths.iter().sum();
                let values = (0..total).map(|_| self.text(values, "word")).collect();
                Column::StringLists(pb::StringListValues { values, lengths })
            }
            Kind::Number { typical, is_count, .. } => {
                let values = (0..rows).map(|_| self.number(*typical, *is_count)).collect();
                Column::Int64s(pb::Int64Values { values })
            }
        }
    }

    /// A count around what is typical, or a flag.
    fn number(&mut self, typical: f64, is_count: bool) -> i64 {
        match LogNormal::new(typical.max(1.0).ln(), 0.5) {
            Ok(spread) if is_count => i64::from(rank(spread.sample(&mut self.random) + 1.0)),
            _ => i64::from(self.random.random_bool(0.3)),
        }
    }

    /// Slots of the features, ascending, and ids of `rows` rows.
    fn ids(&mut self, features: &[&Feature], rows: u32) -> (Vec<u32>, Vec<u8>) {
        let mut slots: Vec<(u32, u32, u32)> = Vec::new();
        for feature in features {
            if let Kind::Id { first_row, rows, slots: own, .. } = &feature.kind {
                slots.extend(own.iter().map(|slot| (*slot, *first_row, *rows)));
            }
        }
        slots.sort_unstable();
        let mut bytes = Vec::new();
        for _ in 0..rows {
            bytes.extend(slots.iter().flat_map(|(_, first, rows)| self.row(*first, *rows).to_le_bytes()));
        }
        (slots.into_iter().map(|(slot, ..)| slot).collect(), bytes)
    }

    /// Columns of the features, ascending, and standardised numbers of `rows` rows.
    fn dense(&mut self, features: &[&Feature], rows: u32) -> (Vec<u32>, Vec<u8>) {
        let number = |f: &&Feature| if let Kind::Number { column, .. } = f.kind { Some(column) } else { None };
        let mut columns: Vec<u32> = features.iter().filter_map(number).collect();
        columns.sort_unstable();
        let mut bytes = Vec::new();
        for _ in 0..rows as usize * columns.len() {
            let value: f32 = StandardNormal.sample(&mut self.random);
            bytes.extend(value.to_le_bytes());
        }
        (columns, bytes)
    }
}

/// A rank from 1 on, as an index from 0 on.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rank(sample: f64) -> u32 {
    (sample - 1.0) as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn demo(form: Form, keys: Keys) -> Pool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1");
        let context = vec!["week".to_owned(), "test_id".to_owned()];
        Synthetic { form, keys, candidates: 4, context, count: 64, seed: 7 }.pool(&folder).unwrap()
    }

    #[test]
    fn requests_differ_and_follow_the_seed() {
        let (one, two) = (demo(Form::Named, Keys::Uniform), demo(Form::Named, Keys::Uniform));
        let bodies: std::collections::BTreeSet<_> = (0..one.len()).map(|n| one.body(n)).collect();
        assert_eq!((one.len(), bodies.len(), one.rows()), (64, 64, Some(4.0)));
        assert!((0..64).all(|n| one.body(n) == two.body(n)));
    }

    #[test]
    fn named_requests_use_the_vocabularies() {
        let pool = demo(Form::Named, Keys::Uniform);
        let request = pb::PredictCtrRequest::decode(&pool.body(0)[5..]).unwrap();
        let context: Vec<&str> = request.context.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((context, request.candidates.len()), (vec!["test_id", "week"], 8));
        let Some(Column::Strings(week)) = &request.context[1].values else { panic!("{request:?}") };
        assert!(week.values[0].starts_with("201"), "{week:?}");
    }

    #[test]
    fn encoded_requests_have_all_columns_once() {
        let pool = demo(Form::Encoded, Keys::Zipf);
        let request = pb::PredictCtrEncodedRequest::decode(&pool.body(0)[5..]).unwrap();
        assert_eq!((request.context_slots, request.context_columns), (vec![0, 2], vec![]));
        assert_eq!((request.context_ids.len(), request.candidate_ids.len()), (2 * 4, 17 * 4 * 4));
        assert_eq!((request.context_dense.len(), request.candidate_dense.len()), (0, 6 * 4 * 4));
    }

    #[test]
    fn zipf_keys_are_skewed() {
        let mut draw = Draw { random: Xoshiro256PlusPlus::seed_from_u64(1), keys: Keys::Zipf };
        let first = (0..10_000).filter(|_| draw.key(1000) < 10).count();
        // The harmonic numbers say 39 %.
        assert!((3_600..4_200).contains(&first), "{first}");
    }

    #[test]
    fn an_unknown_feature_and_a_folder_without_a_model_are_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1");
        let mut wanted =
            Synthetic { form: Form::Named, keys: Keys::Uniform, candidates: 1, context: vec![], count: 1, seed: 0 };
        let error = wanted.pool(Path::new("models/none/1")).unwrap_err().to_string();
        assert!(error.contains("models/none/1/feature_spec.json: ") && error.contains("such as"), "{error}");
        wanted.context = vec!["weak".to_owned()];
        let error = wanted.pool(&folder).unwrap_err().to_string();
        assert!(error.contains("no feature `weak`; it has: test_id, "), "{error}");
    }
}
