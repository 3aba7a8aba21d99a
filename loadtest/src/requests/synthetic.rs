//! Requests made from a model's feature spec, every one different.

use std::path::Path;

use aibuyer_proto::serving::v1 as pb;
use prost::Message as _;

use super::{
    PREDICT_CTR, PREDICT_CTR_ENCODED, Pool, RequestError,
    draw::Draw,
    entities::Entities,
    spec::{Entity, Feature, Spec},
};

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
    /// Columns that are the same for all candidates of a request. A key takes the features with it that are stored
    /// under it.
    pub context: Vec<String>,
    /// What stored features are keyed by. Encoded requests carry every feature.
    pub entities: Entities,
    /// Different requests.
    pub count: usize,
    /// Chooses the values.
    pub seed: u64,
}

impl Synthetic {
    /// Makes requests for the version whose files are in `folder`.
    ///
    /// # Errors
    /// The folder has no readable feature spec, or `context` names a column that the requests do not have.
    pub fn pool(&self, folder: &Path) -> Result<Pool, RequestError> {
        let spec = Spec::read(folder)?;
        let mut names: Vec<&str> = self.columns(&spec).iter().map(Sent::name).collect();
        for key in spec.features.iter().filter_map(|f| Some(f.entity.as_ref()?.key.as_str())) {
            if !names.contains(&key) {
                names.push(key);
            }
        }
        if let Some(unknown) = self.context.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(RequestError::Column(unknown.clone(), names.join(", ")));
        }
        let mut draw = Draw::new(self.seed, self.keys, &self.entities);
        let requests = (0..self.count).map(|_| match self.form {
            Form::Named => self.named(&spec, &mut draw).encode_to_vec(),
            Form::Encoded => self.encoded(&spec, &mut draw).encode_to_vec(),
        });
        let method = if self.form == Form::Named { PREDICT_CTR } else { PREDICT_CTR_ENCODED };
        Ok(Pool::new(method, requests, Some(f64::from(self.candidates))))
    }

    /// What requests carry: features, and keys in the place of stored ones, each column once.
    fn columns<'a>(&self, spec: &'a Spec) -> Vec<Sent<'a>> {
        let carried = self.entities.carried || self.form == Form::Encoded;
        let (own, stored): (Vec<_>, Vec<_>) = spec.features.iter().partition(|f| carried || f.entity.is_none());
        let mut columns: Vec<Sent> = own.into_iter().map(Sent::Feature).collect();
        for entity in stored.into_iter().filter_map(|f| f.entity.as_ref()) {
            if !columns.iter().any(|c| c.name() == entity.key) {
                columns.push(Sent::Key(entity));
            }
        }
        columns
    }

    fn in_context(&self, feature: &Feature) -> bool {
        let key = feature.entity.as_ref().map(|e| &e.key);
        self.context.contains(&feature.name) || key.is_some_and(|key| self.context.contains(key))
    }

    fn named(&self, spec: &Spec, draw: &mut Draw) -> pb::PredictCtrRequest {
        let mut request = pb::PredictCtrRequest {
            model: selector(spec, None),
            candidate_count: Some(self.candidates),
            ..Default::default()
        };
        for column in self.columns(spec) {
            let in_context = match column {
                Sent::Feature(feature) => self.in_context(feature),
                Sent::Key(entity) => self.context.contains(&entity.key),
            };
            let rows = if in_context { 1 } else { self.candidates };
            let values = Some(match column {
                Sent::Feature(feature) => draw.column(feature, rows),
                Sent::Key(entity) => draw.entities(&entity.kind, rows),
            });
            let column = pb::Column { name: column.name().to_owned(), values, missing: vec![] };
            if in_context { &mut request.context } else { &mut request.candidates }.push(column);
        }
        request
    }

    fn encoded(&self, spec: &Spec, draw: &mut Draw) -> pb::PredictCtrEncodedRequest {
        let (context, candidates): (Vec<_>, Vec<_>) = spec.features.iter().partition(|f| self.in_context(f));
        let (context_slots, context_ids) = draw.ids(&context, 1);
        let (context_columns, context_dense) = draw.dense(&context, 1);
        pb::PredictCtrEncodedRequest {
            // The rows of a vocabulary are those of a version.
            model: selector(spec, Some(pb::model_selector::Pick::Version(spec.version))),
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

/// A column of a request.
#[derive(Debug, Clone, Copy)]
enum Sent<'a> {
    Feature(&'a Feature),
    Key(&'a Entity),
}

impl<'a> Sent<'a> {
    fn name(&self) -> &'a str {
        match self {
            Self::Feature(feature) => &feature.name,
            Self::Key(entity) => &entity.key,
        }
    }
}

fn selector(spec: &Spec, pick: Option<pb::model_selector::Pick>) -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: spec.model.clone(), pick })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aibuyer_proto::serving::v1::column::Values as Column;

    use super::*;

    fn demo(form: Form, keys: Keys) -> Pool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1");
        let context = vec!["week".to_owned(), "test_id".to_owned()];
        let entities = Entities::default();
        Synthetic { form, keys, candidates: 4, context, entities, count: 64, seed: 7 }.pool(&folder).unwrap()
    }

    /// A model whose features are stored: of the creative three, one of which requests carry as a feature, too, and of
    /// the user one.
    fn stored(context: &str, carried: bool, form: Form) -> Result<Pool, RequestError> {
        let field =
            |name: &str, kind: &str, source: &str| format!(r#"{{"name": "{name}", "source": {{{source}}}, {kind}}}"#);
        let of = |entity: &str, key: &str| {
            format!(r#""kind": "feature_store", "entity": "{entity}", "entity_key": "{key}", "feature": "f""#)
        };
        let id = |n: u32| {
            format!(
                r#""kind": "categorical", "encoding": {{"type": "hash", "buckets": 8}}, "row_offset": {}, "rows": 10, "slots": [{n}]"#,
                n * 10
            )
        };
        let fields = [
            field("ad", &id(0), r#""kind": "request", "key": "creative_id""#),
            field("words", &id(1), &of("creative", "creative_id")),
            field(
                "clicks",
                r#""kind": "numeric", "column": 0, "transforms": [{"op": "log1p"}]"#,
                &of("creative", "creative_id"),
            ),
            field(
                "age",
                r#""kind": "numeric", "transforms": [{"op": "bucketize"}], "row_offset": 20, "rows": 5, "slots": [2]"#,
                &of("user", "user_id"),
            ),
        ];
        let spec = format!(r#"{{"model": {{"name": "m"}}, "fields": [{}]}}"#, fields.join(", "));
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("3");
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("feature_spec.json"), spec).unwrap();
        let context = context.split(' ').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let entities = Entities { count: 100, format: "{entity}_{n:04}".parse().unwrap(), carried };
        Synthetic { form, keys: Keys::Zipf, candidates: 50, context, entities, count: 64, seed: 7 }.pool(&version)
    }

    fn columns(columns: &[pb::Column]) -> Vec<&str> {
        columns.iter().map(|c| c.name.as_str()).collect()
    }

    #[test]
    fn stored_features_are_left_to_the_store() {
        let pool = stored("user_id", false, Form::Named).unwrap();
        let (mut keys, mut first) = (std::collections::BTreeSet::new(), 0);
        for n in 0..pool.len() {
            let request = pb::PredictCtrRequest::decode(&pool.body(n)[5..]).unwrap();
            assert_eq!(
                (columns(&request.context), columns(&request.candidates)),
                (vec!["user_id"], vec!["creative_id"])
            );
            let Some(Column::Strings(creatives)) = &request.candidates[0].values else { panic!("{request:?}") };
            let Some(Column::Strings(users)) = &request.context[0].values else { panic!("{request:?}") };
            let (creatives, users) = (creatives.values.as_slice(), users.values.as_slice());
            assert!(creatives.len() == 50 && users.len() == 1, "{request:?}");
            assert!(users.at(0).starts_with("user_00"), "{users:?}");
            first += creatives.iter().filter(|v| *v == "creative_0000").count();
            keys.extend(creatives.iter().map(str::to_owned));
        }
        // By Zipf's law the first of a hundred gets 19 % of 3,200.
        assert!((520..720).contains(&first), "{first}");
        assert!(keys.len() > 90 && keys.iter().all(|k| k.len() == 13), "{keys:?}");
    }

    #[test]
    fn stored_features_are_carried_where_that_is_wanted() {
        let pool = stored("user_id", true, Form::Named).unwrap();
        let request = pb::PredictCtrRequest::decode(&pool.body(0)[5..]).unwrap();
        assert_eq!(columns(&request.context), ["age"], "it goes where its key goes");
        assert_eq!(columns(&request.candidates), ["creative_id", "words", "clicks"]);
        let Some(Column::Strings(creatives)) = &request.candidates[0].values else { panic!("{request:?}") };
        assert!(creatives.values.as_slice().at(0).starts_with("creative_00"), "{creatives:?}");

        let pool = stored("user_id", false, Form::Encoded).unwrap();
        let request = pb::PredictCtrEncodedRequest::decode(&pool.body(0)[5..]).unwrap();
        assert_eq!((request.context_slots, request.context_ids.len()), (vec![2], 4));
        assert_eq!((request.candidate_ids.len(), request.candidate_dense.len()), (2 * 50 * 4, 50 * 4));
    }

    #[test]
    fn a_column_that_is_left_to_the_store_is_not_in_the_context() {
        let error = stored("age", false, Form::Named).unwrap_err().to_string();
        assert!(error.contains("no column `age`; they have: creative_id, user_id"), "{error}");
        stored("age", true, Form::Named).unwrap();
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
        assert_eq!(request.model.as_ref().unwrap().pick, None, "whichever version answers");
        let context: Vec<&str> = request.context.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((context, request.candidates.len()), (vec!["test_id", "week"], 8));
        let Some(Column::Strings(week)) = &request.context[1].values else { panic!("{request:?}") };
        assert!(week.values.as_slice().at(0).starts_with("201"), "{week:?}");
    }

    #[test]
    fn encoded_requests_have_all_columns_once() {
        let pool = demo(Form::Encoded, Keys::Zipf);
        let request = pb::PredictCtrEncodedRequest::decode(&pool.body(0)[5..]).unwrap();
        assert_eq!(request.model.as_ref().unwrap().pick, Some(pb::model_selector::Pick::Version(1)));
        assert_eq!((request.context_slots, request.context_columns), (vec![0, 2], vec![]));
        assert_eq!((request.context_ids.len(), request.candidate_ids.len()), (2 * 4, 17 * 4 * 4));
        assert_eq!((request.context_dense.len(), request.candidate_dense.len()), (0, 6 * 4 * 4));
    }

    #[test]
    fn an_unknown_feature_and_a_folder_without_a_model_are_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1");
        let mut wanted = Synthetic {
            form: Form::Named,
            keys: Keys::Uniform,
            candidates: 1,
            context: vec![],
            entities: Entities::default(),
            count: 1,
            seed: 0,
        };
        let error = wanted.pool(Path::new("models/none/1")).unwrap_err().to_string();
        assert!(error.contains("models/none/1/feature_spec.json: ") && error.contains("such as"), "{error}");
        wanted.context = vec!["weak".to_owned()];
        let error = wanted.pool(&folder).unwrap_err().to_string();
        assert!(error.contains("no column `weak`; they have: test_id, "), "{error}");
    }
}
