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

/// A feature that requests give.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How a feature's values look.
#[derive(Debug)]
pub(super) enum Kind {
    /// Ids in slots of `ids`.
    Id { values: Values, first_row: u32, rows: u32, slots: Vec<u32>, list: Option<usize> },
    /// A number in a column of `dense`.
    Number { column: u32, typical: f64, is_count: bool },
}

/// Which values ids have.
#[derive(Debug)]
pub(super) enum Values {
    /// These.
    Known(Vec<String>),
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
    source: Source,
    #[serde(flatten)]
    kind: FieldKind,
}

#[derive(Deserialize)]
struct Source {
    key: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum FieldKind {
    Categorical { encoding: Encoding, row_offset: u32, rows: u32, slots: Vec<u32>, multi: Option<Multi> },
    Numeric { column: u32, default: f64, transforms: Vec<Transform> },
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
        let features = document.fields.into_iter().map(|f| f.feature(folder)).collect::<Result<_, _>>()?;
        Ok(Self { model: document.model.name, version, features })
    }
}

impl Field {
    fn feature(self, folder: &Path) -> Result<Feature, RequestError> {
        let kind = match self.kind {
            FieldKind::Categorical { encoding, row_offset, rows, slots, multi } => Kind::Id {
                values: match encoding.file {
                    Some(file) => Values::Known(vocabulary(&folder.join(file))?),
                    None => Values::Any,
                },
                first_row: row_offset + RESERVED,
                rows: rows.saturating_sub(RESERVED).max(1),
                slots,
                list: multi.map(|m| m.max_values),
            },
            FieldKind::Numeric { column, default, transforms } => {
                Kind::Number { column, typical: default, is_count: transforms.iter().any(|t| t.op == "log1p") }
            }
        };
        Ok(Feature { name: self.source.key, kind })
    }
}

fn vocabulary(path: &Path) -> Result<Vec<String>, RequestError> {
    let text = fs::read_to_string(path).map_err(|e| RequestError::file(path, &e))?;
    let values: Result<Vec<String>, _> = text.lines().map(serde_json::from_str).collect();
    values.map_err(|e| RequestError::file(path, &e))
}
