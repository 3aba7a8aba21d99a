//! Feature views: a named set of columns of one table, one row an entity.

use std::{
    borrow::Borrow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A table that holds one row of features for each entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureView {
    /// Its name, for people.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// Column of the entity's key.
    pub key: &'static str,
    /// Column of the time at which a row was computed.
    pub computed_at: &'static str,
    /// The features, in the order in which rows hold them.
    pub columns: Vec<FeatureColumn>,
}

/// A feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureColumn {
    /// Its column.
    pub name: String,
    /// What its values are.
    pub kind: FeatureKind,
}

/// What values of a feature are; a column of any other type is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    /// Whole numbers of up to 64 bits.
    Integer,
    /// Whole numbers, floating-point or decimal ones, as doubles.
    Number,
    /// Text.
    Text,
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Text => "text",
        })
    }
}

impl FeatureView {
    /// Sums over the last hour, day, week and four weeks of a campaign.
    #[must_use]
    pub fn campaign() -> Self {
        Self {
            name: "campaign",
            table: "campaign_features",
            key: "campaign_id",
            computed_at: "computed_at",
            columns: sums().collect(),
        }
    }

    /// The same of an advertiser's account, and its campaigns of the last four weeks.
    #[must_use]
    pub fn user() -> Self {
        let campaigns = FeatureColumn { name: "campaigns_28d".to_owned(), kind: FeatureKind::Integer };
        Self {
            name: "user",
            table: "user_features",
            key: "user_id",
            computed_at: "computed_at",
            columns: std::iter::once(campaigns).chain(sums()).collect(),
        }
    }

    /// A feature's place in a row. Found once, when a model loads, not with each request.
    #[must_use]
    pub fn position(&self, feature: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == feature)
    }
}

/// Impressions, clicks, spend (in the account's money) and conversions over each window.
fn sums() -> impl Iterator<Item = FeatureColumn> {
    ["1h", "1d", "7d", "28d"].into_iter().flat_map(|window| {
        [
            ("impressions", FeatureKind::Integer),
            ("clicks", FeatureKind::Integer),
            ("spend", FeatureKind::Number),
            ("conversions", FeatureKind::Integer),
        ]
        .map(|(name, kind)| FeatureColumn { name: format!("{name}_{window}"), kind })
    })
}

/// What names an entity in its view, such as a campaign's id. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey(Arc<str>);

/// A key that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entity key needs 1 to {longest} bytes, not {bytes}", longest = EntityKey::LONGEST)]
pub struct KeyError {
    bytes: usize,
}

impl EntityKey {
    /// Longest key, in bytes.
    pub const LONGEST: usize = 256;

    /// # Errors
    /// When it is empty, or longer than [`Self::LONGEST`].
    pub fn new(key: &str) -> Result<Self, KeyError> {
        if key.is_empty() || key.len() > Self::LONGEST {
            Err(KeyError { bytes: key.len() })
        } else {
            Ok(Self(key.into()))
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps by key are asked with text.
impl Borrow<str> for EntityKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    /// NULL, or a number that is not finite.
    Missing,
    /// A whole number.
    Integer(i64),
    /// Any number; finite.
    Number(f64),
    /// Text.
    Text(Box<str>),
}

/// The features of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// When they were computed, by the clock of the store.
    pub computed_at: SystemTime,
    /// One for each column of the view, in its order.
    pub values: Box<[FeatureValue]>,
}

impl FeatureRow {
    /// How old the values are; zero where the store's clock is ahead.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.computed_at).unwrap_or_default()
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.values.iter().map(|value| if let FeatureValue::Text(text) = value { text.len() } else { 0 });
        size_of::<Self>() + size_of_val(&*self.values) + texts.sum::<usize>()
    }
}
