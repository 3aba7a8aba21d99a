//! The part of a model's feature spec that requests are made from.

use std::{fs, path::Path};

use serde::Deserialize;

use super::RequestError;

/// A model version: its folder's number and `feature_spec.json`.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) model: String,
    pub(super) version: u64,
    pub(super) features: Vec<Feature>,
}

/// A feature of the model.
#[derive(Debug)]
pub(super) struct Feature {
    /// The column of a request that carries it.
    pub(super) name: String,
    /// Whose feature it is, if a feature store has it.
    pub(super) entity: Option<Entity>,
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// What stored features are keyed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entity {
    /// Such as `campaign`.
    pub(super) kind: String,
    /// The column of a request that carries its key.
    pub(super) key: String,
}

/// How a feature's values look.
#[derive(Debug)]
pub(super) enum Kind {
    /// Ids; at most so many a row where it is a list.
    Id { values: Values, list: Option<usize> },
    /// A number.
    Number { typical: f64, is_count: bool },
}

/// Where a feature stands in the input tensors.
#[derive(Debug)]
pub(super) enum Place {
    /// A column of `dense`.
    Column(u32),
    /// Slots of `ids`, and the table rows that stand for values.
    Slots { first_row: u32, rows: u32, slots: Vec<u32> },
}

/// Which values ids have.
#[derive(Debug)]
pub(super) enum Values {
    /// These.
    Known(Vec<String>),
    /// Keys of such entities.
    Keys(String),
    /// Any.
    Any,
}

#[derive(Deserialize)]
struct Document {
    model: Named,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    source: Source,
    #[serde(flatten)]
    kind: FieldKind,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Source {
    Request { key: String },
    FeatureStore { entity: String, entity_key: String },
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum FieldKind {
    Categorical {
        encoding: Encoding,
        row_offset: u32,
        rows: u32,
        slots: Vec<u32>,
        multi: Option<Multi>,
    },
    Numeric {
        default: Option<f64>,
        transforms: Vec<Transform>,
        column: Option<u32>,
        #[serde(default)]
        row_offset: u32,
        #[serde(default)]
        rows: u32,
        #[serde(default)]
        slots: Vec<u32>,
    },
}

#[derive(Deserialize)]
struct Encoding {
    file: Option<String>,
}

#[derive(Deserialize)]
struct Multi {
    max_values: usize,
}

#[derive(Deserialize)]
struct Transform {
    op: String,
}

/// Table rows of a field that stand for no value: missing and out of vocabulary.
const RESERVED: u32 = 2;

impl Spec {
    /// Reads the folder of a version.
    pub(super) fn read(folder: &Path) -> Result<Self, RequestError> {
        let path = folder.join("feature_spec.json");
        let text = fs::read(&path).map_err(|e| {
            RequestError::file(&path, &format!("{e}; name the folder of a version, such as models/ctr-upworthy/1"))
        })?;
        let document: Document = serde_json::from_slice(&text).map_err(|e| RequestError::file(&path, &e))?;
        let version = folder.file_name().and_then(|n| n.to_str()?.parse().ok());
        let version =
            version.ok_or_else(|| RequestError::file(folder, &"the folder's name is not a version number"))?;
        let mut features: Vec<Feature> =
            document.fields.into_iter().map(|f| f.feature(folder)).collect::<Result<_, _>>()?;
        // A column that is a feature and a key has the values of a key.
        let entities: Vec<Entity> = features.iter().filter_map(|f| f.entity.clone()).collect();
        for feature in &mut features {
            if let Kind::Id { values: values @ Values::Any, list: None } = &mut feature.kind
                && feature.entity.is_none()
                && let Some(entity) = entities.iter().find(|e| e.key == feature.name)
            {
                *values = Values::Keys(entity.kind.clone());
            }
        }
        Ok(Self { model: document.model.name, version, features })
    }
}

impl Field {
    fn feature(self, folder: &Path) -> Result<Feature, RequestError> {
        let slots = |offset: u32, rows: u32, slots| Place::Slots {
            first_row: offset + RESERVED,
            rows: rows.saturating_sub(RESERVED).max(1),
            slots,
        };
        let (kind, place) = match self.kind {
            FieldKind::Categorical { encoding, row_offset, rows, slots: own, multi } => {
                let values = match encoding.file {
                    Some(file) => Values::Known(vocabulary(&folder.join(file))?),
                    None => Values::Any,
                };
                (Kind::Id { values, list: multi.map(|m| m.max_values) }, slots(row_offset, rows, own))
            }
            FieldKind::Numeric { default, transforms, column, row_offset, rows, slots: own } => {
                let is_count = transforms.iter().any(|t| t.op == "log1p");
                let kind = Kind::Number { typical: default.unwrap_or(1.0), is_count };
                (kind, column.map_or_else(|| slots(row_offset, rows, own), Place::Column))
            }
        };
        let (name, entity) = match self.source {
            Source::Request { key } => (key, None),
            Source::FeatureStore { entity, entity_key } => (self.name, Some(Entity { kind: entity, key: entity_key })),
        };
        Ok(Feature { name, entity, kind, place })
    }
}

fn vocabulary(path: &Path) -> Result<Vec<String>, RequestError> {
    let text = fs::read_to_string(path).map_err(|e| RequestError::file(path, &e))?;
    let values: Result<Vec<String>, _> = text.lines().map(serde_json::from_str).collect();
    values.map_err(|e| RequestError::file(path, &e))
}
