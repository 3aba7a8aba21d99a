//! One feature of a feature spec.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::{
    hash::{Normalize, ROW_FIRST, SCHEME},
    spec::SpecError,
    transform::Transform,
};

/// One feature: where its values come from and how they become ids or a dense column.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FieldSpec {
    /// Text that becomes table rows.
    Categorical {
        /// The feature's name, which salts its hashes.
        name: String,
        /// Where values come from.
        source: Source,
        /// How a value becomes a row.
        encoding: Encoding,
        /// Applied to each value first, in order.
        #[serde(default)]
        normalize: Vec<Normalize>,
        /// First table row of the field.
        row_offset: u32,
        /// Table rows of the field: missing, unknown, then the real ones.
        rows: u32,
        /// Columns of `ids` that the field fills.
        slots: Vec<usize>,
        /// Present on a multivalued field.
        multi: Option<Multi>,
        /// What a missing value becomes.
        #[serde(default)]
        missing: MissingPolicy,
        /// What a value outside the vocabulary becomes.
        #[serde(default)]
        oov: UnknownPolicy,
        /// What the prediction log holds of a value.
        log: Option<LogPolicy>,
    },
    /// A number that becomes a dense column or, by `bucketize`, a table row.
    Numeric {
        /// The feature's name.
        name: String,
        /// Where values come from.
        source: Source,
        /// Column of `dense`; absent when the last transform is `bucketize`.
        column: Option<usize>,
        /// Raw value of a missing one; it passes through the transforms. Without it a missing value is an
        /// error, or row 0 of a bucketized field.
        default: Option<f64>,
        /// Applied in order, in double precision.
        #[serde(default)]
        transforms: Vec<Transform>,
        /// First table row of a bucketized field.
        row_offset: Option<u32>,
        /// Table rows of a bucketized field.
        rows: Option<u32>,
        /// The one column of `ids` of a bucketized field.
        #[serde(default)]
        slots: Vec<usize>,
        /// What a missing value without `default` becomes, in a bucketized field.
        #[serde(default)]
        missing: MissingPolicy,
        /// What the prediction log holds of a value.
        log: Option<LogPolicy>,
    },
}

/// What the prediction log holds of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogPolicy {
    /// The value.
    Keep,
    /// Its hash: equal values can be told, but not what they are.
    Hash,
    /// Nothing.
    Drop,
}

/// Where a feature's values come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The request carries it.
    Request {
        /// Its input name.
        key: String,
    },
    /// The feature store has it, keyed by an entity. A request that carries a column of the field's name
    /// overrides the store.
    FeatureStore {
        /// Kind of entity, which is the name of its view, for example `campaign`.
        entity: String,
        /// Request input that holds the entity's key.
        entity_key: String,
        /// The feature's name in the view; absent where `smoothed` makes the value of two.
        feature: Option<String>,
        /// A rate of two features, in place of `feature`.
        smoothed: Option<Smoothed>,
        /// Age in seconds beyond which a stored value counts as missing.
        max_age: Option<f64>,
    },
}

/// `(successes + a) / (trials + a + b)`: the mean of a rate's posterior under a Beta(a, b) prior, so that an entity with
/// few trials stays near the mean of all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smoothed {
    /// Feature that counts successes, for example `clicks_7d`.
    pub successes: String,
    /// Feature that counts trials, for example `impressions_7d`.
    pub trials: String,
    /// Successes before anything is seen; at least 0.
    pub a: f64,
    /// Failures before anything is seen; at least 0, and above 0 together with `a`.
    pub b: f64,
}

impl Smoothed {
    /// The rate.
    #[must_use]
    pub fn rate(&self, successes: f64, trials: f64) -> f64 {
        (successes + self.a) / (trials + self.a + self.b)
    }
}

impl Source {
    /// Checks it by itself; `at` names it in errors.
    fn check(&self, at: &str) -> Result<(), SpecError> {
        let Self::FeatureStore { entity_key, feature, smoothed, max_age, .. } = self else { return Ok(()) };
        if entity_key.is_empty() {
            return Err(SpecError::at(at, "entity_key is empty; name the input that holds the entity's key"));
        }
        if feature.is_some() == smoothed.is_some() {
            return Err(SpecError::at(at, "needs either `feature` or `smoothed`"));
        }
        if let Some(Smoothed { a, b, .. }) = smoothed
            && !(a.is_finite() && b.is_finite() && *a >= 0.0 && *b >= 0.0 && a + b > 0.0)
        {
            return Err(SpecError::at(at, "smoothed needs finite a and b of at least 0, and a + b above 0"));
        }
        // A duration must hold it.
        if max_age.is_some_and(|age| !(age > 0.0 && age <= 1e9)) {
            return Err(SpecError::at(at, "max_age must be above 0 and at most 1e9 seconds"));
        }
        Ok(())
    }
}

/// How a categorical value becomes a row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// A value's row is its line in a file.
    Vocabulary {
        /// The file, one JSON string a line.
        file: String,
    },
    /// A value's row is its hash.
    Hash {
        /// Always [`SCHEME`].
        scheme: String,
        /// Number of real rows.
        buckets: NonZeroU32,
    },
}

/// Several values in one feature.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multi {
    /// Values beyond this many are cut off.
    pub max_values: usize,
    /// Which values stay.
    pub truncate: Truncate,
    /// How the model pools them, for people.
    pub pooling: String,
}

/// Which of too many values stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The first ones.
    KeepFirst,
}

/// What a missing value becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum MissingPolicy {
    /// The field's row 0.
    #[default]
    #[serde(rename = "row_0")]
    Row0,
    /// An error of its row.
    #[serde(rename = "reject")]
    Reject,
}

/// What a value outside the vocabulary becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum UnknownPolicy {
    /// The field's row 1.
    #[default]
    #[serde(rename = "row_1")]
    Row1,
    /// The field's row 0, as if it were missing.
    #[serde(rename = "row_0")]
    Row0,
    /// An error of its row.
    #[serde(rename = "reject")]
    Reject,
}

/// What a field occupies of the input tensors and the table.
pub(super) enum Occupied<'a> {
    Column(usize),
    Rows { offset: u32, rows: u32, slots: &'a [usize] },
}

impl FieldSpec {
    /// The feature's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Categorical { name, .. } | Self::Numeric { name, .. } => name,
        }
    }

    /// Where values come from.
    #[must_use]
    pub fn source(&self) -> &Source {
        match self {
            Self::Categorical { source, .. } | Self::Numeric { source, .. } => source,
        }
    }

    /// Name of the request column that carries the feature.
    #[must_use]
    pub fn input(&self) -> &str {
        match self.source() {
            Source::Request { key } => key,
            Source::FeatureStore { .. } => self.name(),
        }
    }

    /// Whether values are numbers, not text.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Numeric { .. })
    }

    /// What the prediction log holds of a value, if the spec says so; else of numbers the value, of text its hash.
    #[must_use]
    pub fn log(&self) -> Option<LogPolicy> {
        match self {
            Self::Categorical { log, .. } | Self::Numeric { log, .. } => *log,
        }
    }

    /// What a request may send, for a person to read.
    #[must_use]
    pub fn accepts(&self) -> &'static str {
        match self {
            Self::Categorical { multi: Some(_), .. } => "string_lists or strings",
            Self::Categorical { multi: None, .. } => "strings, int64s or bools",
            Self::Numeric { .. } => "doubles, int64s or bools",
        }
    }

    /// Whether a request without a value is refused.
    #[must_use]
    pub fn needs_value(&self) -> bool {
        match self {
            Self::Categorical { missing, .. } => *missing == MissingPolicy::Reject,
            Self::Numeric { column, default, missing, .. } => {
                default.is_none() && (column.is_some() || *missing == MissingPolicy::Reject)
            }
        }
    }

    /// Whether a value that the vocabulary lacks is refused.
    #[must_use]
    pub fn rejects_unknown(&self) -> bool {
        matches!(self, Self::Categorical { oov: UnknownPolicy::Reject, encoding: Encoding::Vocabulary { .. }, .. })
    }

    pub(super) fn vocabulary_file(&self) -> Option<&str> {
        match self {
            Self::Categorical { encoding: Encoding::Vocabulary { file }, .. } => Some(file),
            _ => None,
        }
    }

    pub(super) fn occupied(&self) -> Occupied<'_> {
        match self {
            Self::Categorical { row_offset, rows, slots, .. } => {
                Occupied::Rows { offset: *row_offset, rows: *rows, slots }
            }
            Self::Numeric { column: Some(column), .. } => Occupied::Column(*column),
            Self::Numeric { row_offset, rows, slots, .. } => {
                Occupied::Rows { offset: row_offset.unwrap_or(0), rows: rows.unwrap_or(0), slots }
            }
        }
    }

    /// Checks the field by itself; `at` names it in errors.
    pub(super) fn check(&self, at: &str) -> Result<(), SpecError> {
        self.source().check(&format!("{at}.source"))?;
        match self {
            Self::Categorical { encoding, rows, slots, multi, .. } => {
                let width = multi.as_ref().map_or(1, |m| m.max_values);
                if slots.len() != width || slots.is_empty() {
                    return Err(SpecError::at(at, format!("has {} slots, needs {}", slots.len(), width.max(1))));
                }
                if *rows < ROW_FIRST {
                    return Err(SpecError::at(at, "needs at least 2 rows: missing and unknown"));
                }
                if let Encoding::Hash { scheme, buckets } = encoding {
                    if scheme != SCHEME {
                        return Err(SpecError::at(at, format!("encoding.scheme is {scheme:?}, must be {SCHEME:?}")));
                    }
                    if buckets.get().checked_add(ROW_FIRST) != Some(*rows) {
                        return Err(SpecError::at(
                            at,
                            format!("has {rows} rows, needs buckets + 2 for {buckets} buckets"),
                        ));
                    }
                }
                Ok(())
            }
            Self::Numeric { column, default, transforms, row_offset, rows, slots, .. } => {
                if default.is_some_and(|d| !d.is_finite()) {
                    return Err(SpecError::at(at, "default must be finite"));
                }
                for (i, transform) in transforms.iter().enumerate() {
                    let at = format!("{at}.transforms[{i}]");
                    transform.check(i + 1 == transforms.len()).map_err(|reason| SpecError::at(at, reason))?;
                }
                match (transforms.last().and_then(Transform::boundaries), column) {
                    (None, Some(_)) if row_offset.is_none() && rows.is_none() && slots.is_empty() => Ok(()),
                    (None, _) => Err(SpecError::at(at, "needs `column`, and no rows or slots, without a `bucketize`")),
                    (Some(boundaries), None) if row_offset.is_some() && slots.len() == 1 => {
                        let needed = boundaries.len() + 1 + ROW_FIRST as usize;
                        if rows.is_some_and(|rows| rows as usize == needed) {
                            Ok(())
                        } else {
                            Err(SpecError::at(at, format!("rows must be {needed}, the boundaries + 3")))
                        }
                    }
                    (Some(_), _) => Err(SpecError::at(
                        at,
                        "needs `row_offset`, `rows` and one slot, and no `column`, with `bucketize`",
                    )),
                }
            }
        }
    }
}
