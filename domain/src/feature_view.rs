//! Feature views: a named set of columns of one table, one row an entity.
//!
//! The two that the engine has, [`FeatureView::campaign`] and [`FeatureView::user`], are what a model's feature spec can
//! name. Their rows come from elsewhere.

use std::fmt;

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
    /// All that the engine has.
    #[must_use]
    pub fn all() -> [Self; 2] {
        [Self::campaign(), Self::user()]
    }

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

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    /// NULL, or a number that is not finite.
    Missing,
    /// A whole number.
    Integer(i64),
    /// Any number; finite.
    Number(f64),
    /// Text; behind a pointer of one word, so that numbers, which most values are, take two.
    Text(Box<Box<str>>),
}

impl FeatureValue {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(Box::new(text.into()))
    }
}
