//! Features that a request need not carry: which entity's row of which view holds them, and what of it.
//!
//! [`Stored::resolve`] is done once a version, when it loads: a feature that no view has refuses the version. A request
//! names its entities ([`StoredEntity::keys`]); whoever has the rows makes columns of them ([`StoredField::column`]),
//! which are encoded as if the request had carried them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    column::{Column, Values},
    field::{FieldSpec, Smoothed, Source},
    spec::{FeatureSpec, SpecError},
    strings::StringArray,
};
use crate::feature_view::{FeatureKind, FeatureValue, FeatureView};

/// All that a version takes from views.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// One for each view and key input, in the order in which the spec names them.
    pub entities: Vec<StoredEntity>,
}

/// The features that one row of a view gives.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntity {
    /// The view's place among those that the spec was resolved against.
    pub view: usize,
    /// The view's name.
    pub name: &'static str,
    /// Request input that holds the keys.
    pub key: String,
    /// The features.
    pub fields: Vec<StoredField>,
}

/// One feature of a view's row.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredField {
    /// The feature's input name.
    pub input: Arc<str>,
    /// Age beyond which its value counts as missing.
    pub max_age: Option<Duration>,
    /// Whether nothing may stand in for a missing value.
    pub needs_value: bool,
    take: Take,
}

/// What of a row becomes the value; positions are those of the view's columns.
#[derive(Debug, Clone, PartialEq)]
enum Take {
    Number(usize),
    Integer(usize),
    Text(usize),
    Smoothed { successes: usize, trials: usize, formula: Smoothed },
}

impl Stored {
    /// Finds every stored feature of a spec among the views.
    ///
    /// # Errors
    /// [`SpecError`] where a view or feature is unknown, or a feature is of a type that the field cannot take.
    pub fn resolve(spec: &FeatureSpec, views: &[FeatureView]) -> Result<Self, SpecError> {
        let mut entities: Vec<StoredEntity> = Vec::new();
        for field in &spec.fields {
            let Source::FeatureStore { entity, entity_key, feature, smoothed, max_age } = field.source() else {
                continue;
            };
            let at = format!("fields[{:?}].source", field.name());
            let Some(view) = views.iter().position(|view| view.name == entity) else {
                let known: Vec<_> = views.iter().map(|view| view.name).collect();
                let reason = format!("there is no feature view {entity:?}; there are {}", known.join(", "));
                return Err(SpecError::at(at, reason));
            };
            let take = Take::of(field, feature.as_deref(), smoothed.as_ref(), &views[view], &at)?;
            let stored = StoredField {
                input: field.input().into(),
                max_age: max_age.map(Duration::from_secs_f64),
                needs_value: field.needs_value(),
                take,
            };
            match entities.iter_mut().find(|known| known.view == view && known.key == *entity_key) {
                Some(known) => known.fields.push(stored),
                None => entities.push(StoredEntity {
                    view,
                    name: views[view].name,
                    key: entity_key.clone(),
                    fields: vec![stored],
                }),
            }
        }
        Ok(Self { entities })
    }
}

impl Take {
    fn of(
        field: &FieldSpec,
        feature: Option<&str>,
        smoothed: Option<&Smoothed>,
        view: &FeatureView,
        at: &str,
    ) -> Result<Self, SpecError> {
        let find = |name: &str| -> Result<(usize, FeatureKind), SpecError> {
            let position = view.position(name).ok_or_else(|| {
                let known: Vec<_> = view.columns.iter().map(|column| column.name.as_str()).collect();
                let reason = format!("the view {} has no feature {name:?}; it has {}", view.name, known.join(", "));
                SpecError::at(at, reason)
            })?;
            Ok((position, view.columns[position].kind))
        };
        let unfit = |name: &str, kind: FeatureKind| {
            Err(SpecError::at(at, format!("{name} of the view {} is {kind}, which this field cannot take", view.name)))
        };
        let numeric = matches!(field, FieldSpec::Numeric { .. });
        match (feature, smoothed) {
            (Some(name), _) => {
                let (position, kind) = find(name)?;
                match (kind, field) {
                    (FeatureKind::Integer | FeatureKind::Number, FieldSpec::Numeric { .. }) => {
                        Ok(Self::Number(position))
                    }
                    (FeatureKind::Integer, FieldSpec::Categorical { multi: None, .. }) => Ok(Self::Integer(position)),
                    (FeatureKind::Text, FieldSpec::Categorical { .. }) => Ok(Self::Text(position)),
                    _ => unfit(name, kind),
                }
            }
            (None, Some(formula)) => {
                let mut places = [0; 2];
                for (place, name) in places.iter_mut().zip([&formula.successes, &formula.trials]) {
                    let (position, kind) = find(name)?;
                    if kind == FeatureKind::Text || !numeric {
                        return unfit(name, kind);
                    }
                    *place = position;
                }
                Ok(Self::Smoothed { successes: places[0], trials: places[1], formula: formula.clone() })
            }
            // `FeatureSpec::parse` refuses it.
            (None, None) => Err(SpecError::at(at, "needs either `feature` or `smoothed`")),
        }
    }
}

/// The keys of a request's entities.
#[derive(Debug, Clone, PartialEq)]
pub struct Keys<'a> {
    /// Whether one key, of the context, holds for all candidates.
    pub of_context: bool,
    /// The keys; `None` where there is none.
    pub keys: Vec<Option<Cow<'a, str>>>,
}

impl StoredEntity {
    /// The keys that a request carries: one where they stand in the context, else `candidates`. `None` where it carries
    /// none, or a column that the encoder refuses.
    #[must_use]
    pub fn keys<'a>(&self, context: &[Column<'a>], columns: &[Column<'a>], candidates: usize) -> Option<Keys<'a>> {
        let find = |group: &[Column<'a>]| group.iter().find(|column| column.name == self.key).copied();
        let (of_context, column) =
            find(context).map(|column| (true, column)).or_else(|| Some((false, find(columns)?)))?;
        let mut keys: Vec<Option<Cow<'a, str>>> = match column.values {
            Values::Strings(values) => values.iter().map(|v| (!v.is_empty()).then_some(Cow::Borrowed(v))).collect(),
            Values::Int64s(values) => values.iter().map(|v| Some(Cow::Owned(v.to_string()))).collect(),
            _ => return None,
        };
        if keys.len() != if of_context { 1 } else { candidates } {
            return None;
        }
        for &row in column.missing {
            *keys.get_mut(row as usize)? = None;
        }
        Some(Keys { of_context, keys })
    }
}

/// A feature's values out of rows, to be encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredColumn {
    /// Rows without a value.
    pub missing: Vec<u32>,
    values: OwnedValues,
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedValues {
    Doubles(Vec<f64>),
    Int64s(Vec<i64>),
    Strings(StringArray),
}

impl StoredColumn {
    /// The column, borrowed, under a feature's input name.
    #[must_use]
    pub fn column<'a>(&'a self, name: &'a str) -> Column<'a> {
        let values = match &self.values {
            OwnedValues::Doubles(v) => Values::Doubles(v),
            OwnedValues::Int64s(v) => Values::Int64s(v),
            OwnedValues::Strings(v) => Values::Strings(v.as_slice()),
        };
        Column { name, values, missing: &self.missing }
    }
}

impl StoredField {
    /// The feature's values of some entities; `None` is an entity whose row is not there, or may not be used.
    #[must_use]
    pub fn column(&self, rows: &[Option<&[FeatureValue]>]) -> StoredColumn {
        let mut missing = Vec::new();
        let values = match &self.take {
            Take::Number(at) => OwnedValues::Doubles(collect(rows, &mut missing, |row| number(row, *at))),
            Take::Smoothed { successes, trials, formula } => {
                let rate = |row| Some(formula.rate(number(row, *successes)?, number(row, *trials)?));
                // Counts that make no rate, such as negative ones, are no value.
                let rate = |row| rate(row).filter(|rate: &f64| rate.is_finite());
                OwnedValues::Doubles(collect(rows, &mut missing, rate))
            }
            Take::Integer(at) => OwnedValues::Int64s(collect(rows, &mut missing, |row| match row.get(*at) {
                Some(FeatureValue::Integer(value)) => Some(*value),
                _ => None,
            })),
            Take::Text(at) => OwnedValues::Strings(collect(rows, &mut missing, |row| match row.get(*at) {
                Some(FeatureValue::Text(text)) => Some(&***text),
                _ => None,
            })),
        };
        StoredColumn { missing, values }
    }
}

fn collect<'a, T: Default, C: FromIterator<T>>(
    rows: &[Option<&'a [FeatureValue]>],
    missing: &mut Vec<u32>,
    value: impl Fn(&'a [FeatureValue]) -> Option<T>,
) -> C {
    let values = (0u32..).zip(rows.iter().copied()).map(|(index, row)| {
        let value = row.and_then(&value);
        if value.is_none() {
            missing.push(index);
        }
        value.unwrap_or_default()
    });
    values.collect()
}

#[allow(clippy::cast_precision_loss)] // counts beyond 2^53 lose nothing that float32 would keep
fn number(row: &[FeatureValue], at: usize) -> Option<f64> {
    match row.get(at)? {
        FeatureValue::Integer(value) => Some(*value as f64),
        FeatureValue::Number(value) => Some(*value),
        FeatureValue::Missing | FeatureValue::Text(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(fields: &[Value]) -> Result<FeatureSpec, SpecError> {
        let width = |key: &str| fields.iter().filter(|field| !field[key].is_null()).count();
        let (slots, columns) = (width("slots").max(1), width("column").max(1));
        let mut fields = fields.to_vec();
        if width("slots") == 0 {
            fields.push(category(0, "filler", &json!({"kind": "request", "key": "filler"})));
        }
        if width("column") == 0 {
            fields.push(number(0, "weight", &json!({"kind": "request", "key": "weight"})));
        }
        let tensor = |dtype: &str, shape: Value| json!({"dtype": dtype, "shape": shape});
        let spec = json!({
            "contract_version": 1,
            "model": {"name": "m", "kind": "ctr", "file": "model.onnx", "opset": 17,
                "inputs": {"ids": tensor("int64", json!(["batch", slots])), "dense": tensor("float32", json!(["batch", columns]))},
                "outputs": {"logit": tensor("float32", json!(["batch"]))}},
            "hash": {"scheme": "aibuyer-hash-v1"},
            "table_rows": 1000,
            "fields": fields,
            "golden": {"file": "golden.jsonl", "logit_abs_tol": 1e-5, "variance_rel_tol": 1e-5},
            "files_sha256": {"model.onnx": "0".repeat(64), "golden.jsonl": "0".repeat(64)},
        });
        FeatureSpec::parse(spec.to_string().as_bytes())
    }

    fn number(column: usize, name: &str, source: &Value) -> Value {
        json!({"kind": "numeric", "name": name, "column": column, "default": 0.5, "source": source})
    }

    fn category(slot: usize, name: &str, source: &Value) -> Value {
        json!({"kind": "categorical", "name": name, "slots": [slot], "row_offset": slot * 12, "rows": 12,
            "encoding": {"type": "hash", "scheme": "aibuyer-hash-v1", "buckets": 10}, "source": source})
    }

    fn of_campaign(more: &Value) -> Value {
        let mut source = json!({"kind": "feature_store", "entity": "campaign", "entity_key": "campaign_id"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        source
    }

    fn smoothed(a: f64, b: f64) -> Value {
        json!({"smoothed": {"successes": "clicks_7d", "trials": "impressions_7d", "a": a, "b": b}})
    }

    fn resolve(fields: &[Value]) -> Result<Stored, SpecError> {
        Stored::resolve(&parse(fields)?, &[FeatureView::user(), FeatureView::campaign()])
    }

    #[test]
    fn features_are_found_once_by_view_and_key() {
        let mut of_user = of_campaign(&json!({"feature": "clicks_1d"}));
        (of_user["entity"], of_user["entity_key"]) = (json!("user"), json!("user_id"));
        let stored = resolve(&[
            number(0, "ctr", &of_campaign(&smoothed(1.0, 99.0))),
            number(1, "spend", &of_campaign(&json!({"feature": "spend_28d", "max_age": 90.5}))),
            number(2, "clicks", &of_user),
            category(0, "campaign_id", &json!({"kind": "request", "key": "campaign_id"})),
            category(1, "size", &of_campaign(&json!({"feature": "impressions_1h"}))),
        ])
        .unwrap();
        let [campaign, user] = &*stored.entities else { panic!("{stored:?}") };
        assert_eq!((campaign.view, campaign.name, &*campaign.key), (1, "campaign", "campaign_id"));
        assert_eq!((user.view, user.name, &*user.key), (0, "user", "user_id"));
        let [ctr, spend, size] = &*campaign.fields else { panic!("{campaign:?}") };
        assert_eq!(spend.max_age, Some(Duration::from_millis(90_500)));

        let view = FeatureView::campaign();
        let row = |set: &[(&str, FeatureValue)]| {
            let mut row = vec![FeatureValue::Missing; view.columns.len()];
            set.iter().for_each(|(name, value)| row[view.position(name).unwrap()] = value.clone());
            row
        };
        let full = row(&[
            ("clicks_7d", FeatureValue::Integer(9)),
            ("impressions_7d", FeatureValue::Integer(100)),
            ("impressions_1h", FeatureValue::Integer(7)),
            ("spend_28d", FeatureValue::Number(2.5)),
        ]);
        let half = row(&[("clicks_7d", FeatureValue::Integer(9))]);
        let wrong = row(&[("clicks_7d", FeatureValue::Integer(1)), ("impressions_7d", FeatureValue::Integer(-100))]);
        let rows = [Some(&*full), None, Some(&*half), Some(&*wrong)];
        let column = ctr.column(&rows);
        assert_eq!(column.missing, [1, 2, 3], "half of a rate, or a division by zero, is none");
        let Values::Doubles(rates) = column.column("ctr").values else { panic!("not numbers") };
        assert!((rates[0] - 10.0 / 200.0).abs() < 1e-15);
        let column = spend.column(&rows);
        assert!(matches!(column.column("spend").values, Values::Doubles([x, ..]) if *x == 2.5));
        let column = size.column(&rows);
        assert!(matches!(column.column("size").values, Values::Int64s([7, 0, 0, 0])), "{column:?}");
    }

    #[test]
    fn what_no_view_has_refuses_the_spec() {
        let mut of_creative = of_campaign(&json!({"feature": "clicks_1d"}));
        of_creative["entity"] = json!("creative");
        let mut many = category(0, "campaign_id", &json!({"kind": "request", "key": "campaign_id"}));
        (many["slots"], many["multi"]) =
            (json!([0]), json!({"max_values": 1, "truncate": "keep_first", "pooling": "mean"}));
        let clicks = || number(0, "x", &of_campaign(&json!({"feature": "clicks_1d"})));
        for (fields, part) in [
            (vec![number(0, "x", &of_creative)], "no feature view \"creative\"; there are user, campaign"),
            (vec![number(0, "x", &of_campaign(&json!({"feature": "clicks_2d"})))], "no feature \"clicks_2d\"; it has"),
            (
                vec![category(0, "x", &of_campaign(&json!({"feature": "spend_1d"})))],
                "spend_1d of the view campaign is a number",
            ),
            (vec![category(0, "x", &of_campaign(&smoothed(1.0, 1.0)))], "which this field cannot take"),
            (vec![number(0, "x", &of_campaign(&json!({})))], "needs either `feature` or `smoothed`"),
            (vec![number(0, "x", &of_campaign(&smoothed(0.0, 0.0)))], "a + b above 0"),
            (vec![number(0, "x", &of_campaign(&json!({"feature": "clicks_1d", "max_age": 0})))], "max_age must be"),
            (vec![many, clicks()], "must be a category that requests carry"),
            (vec![number(0, "campaign_id", &of_campaign(&json!({"feature": "clicks_1d"})))], "holds keys of entities"),
        ] {
            let reason = resolve(&fields).unwrap_err().to_string();
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }

    #[test]
    fn keys_stand_in_the_context_or_by_candidate() {
        let stored = resolve(&[number(0, "x", &of_campaign(&json!({"feature": "clicks_1d"})))]).unwrap();
        let entity = &stored.entities[0];
        let column = |values| Column { name: "campaign_id", values, missing: &[] };
        let texts: StringArray = ["a", ""].into_iter().collect();
        let keys = entity.keys(&[], &[column(Values::Strings(texts.as_slice()))], 2).unwrap();
        assert!(!keys.of_context);
        assert_eq!(keys.keys, [Some("a".into()), None], "no text is no key");
        let keys = entity.keys(&[column(Values::Int64s(&[-7]))], &[], 2).unwrap();
        assert!(keys.of_context);
        assert_eq!(keys.keys, [Some("-7".into())]);
        let gap = Column { missing: &[0], ..column(Values::Int64s(&[1, 2])) };
        assert_eq!(entity.keys(&[], &[gap], 2).unwrap().keys, [None, Some("2".into())]);
        // What the encoder refuses is not looked up.
        assert_eq!(entity.keys(&[], &[column(Values::Strings(texts.as_slice()))], 3), None);
        assert_eq!(entity.keys(&[], &[column(Values::Doubles(&[1.0, 2.0]))], 2), None);
        assert_eq!(entity.keys(&[], &[Column { missing: &[9], ..column(Values::Int64s(&[1, 2])) }], 2), None);
        assert_eq!(entity.keys(&[], &[], 2), None);
    }
}
