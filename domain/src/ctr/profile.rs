//! `profile.json`: how each feature's values were distributed in training, to compare what is served with.

use std::collections::BTreeMap;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{field::FieldSpec, spec::FeatureSpec};

/// Groups of a feature at most: what a few bytes of JSON may make ClickHouse do.
const MOST_GROUPS: usize = 100;
/// Longest value, in bytes.
const LONGEST: usize = 1000;
/// Size of the file, in bytes.
const LARGEST: usize = 1 << 20;
/// Shares are rounded decimals: how far their sum may be from 1.
const TOLERANCE: f64 = 1e-6;

/// The values of training, by field.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// By the field's name in the feature spec. A field may be absent.
    pub fields: BTreeMap<String, FieldProfile>,
}

/// The values of one field. Shares, that of missing values included, add up to 1.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FieldProfile {
    /// Raw numbers, before any transform.
    Numeric {
        /// Inner bounds of the groups, ascending. A number is in the group that is as many as there are edges at or
        /// below it.
        edges: Vec<f64>,
        /// Share of each group, one more than edges.
        shares: Vec<f64>,
        /// Share of rows without a value.
        missing: f64,
    },
    /// Texts as a request brings them.
    Categorical {
        /// The most frequent values and the share of each.
        values: BTreeMap<String, f64>,
        /// Share of all others.
        other: f64,
        /// Share of rows without a value.
        missing: f64,
    },
}

impl Profile {
    /// Reads a profile and checks it against the spec that it came with.
    ///
    /// # Errors
    /// The first thing that is wrong, for a person to read.
    pub fn parse(json: &[u8], spec: &FeatureSpec) -> Result<Self, String> {
        if json.len() > LARGEST {
            return Err(format!("has {} bytes, may have {LARGEST}: leave out long values", json.len()));
        }
        let profile: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        for (name, profile) in &profile.fields {
            let wrong = |reason: &str| format!("fields[{name:?}]: {reason}");
            match (spec.fields.iter().find(|field| field.name() == name), profile) {
                (None, _) => return Err(wrong("is not a field of the feature spec")),
                (Some(FieldSpec::Categorical { multi: Some(_), .. }), _) => {
                    return Err(wrong("has several values a row, which a profile cannot describe: leave it out"));
                }
                (Some(FieldSpec::Numeric { .. }), FieldProfile::Numeric { .. })
                | (Some(FieldSpec::Categorical { .. }), FieldProfile::Categorical { .. }) => {}
                (Some(_), _) => return Err(wrong("is of another kind than in the feature spec")),
            }
            profile.check().map_err(|reason| wrong(&reason))?;
        }
        Ok(profile)
    }
}

impl FieldProfile {
    /// Share of each group: of numbers from the lowest up, of texts the values in order and then all others; last, that
    /// of missing values.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        match self {
            Self::Numeric { shares, missing, .. } => shares.iter().copied().chain([*missing]).collect(),
            Self::Categorical { values, other, missing } => {
                values.values().copied().chain([*other, *missing]).collect()
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Numeric { edges, shares, .. } => {
                if shares.len() != edges.len() + 1 {
                    return Err(format!("has {} shares, needs {}: edges + 1", shares.len(), edges.len() + 1));
                }
                if !edges.iter().all(|edge| edge.is_finite()) || !edges.is_sorted_by(|a, b| a < b) {
                    return Err("edges must be finite and ascending".to_owned());
                }
            }
            Self::Categorical { values, .. } => {
                if let Some(value) = values.keys().find(|value| value.is_empty() || value.len() > LONGEST) {
                    return Err(format!("has a value of {} bytes, may have 1 to {LONGEST}", value.len()));
                }
            }
        }
        let shares = self.shares();
        if shares.len() > MOST_GROUPS {
            return Err(format!("has {} groups, may have {MOST_GROUPS}", shares.len()));
        }
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            return Err("shares must be 0 to 1".to_owned());
        }
        let sum: f64 = shares.iter().sum();
        if (sum - 1.0).abs() > TOLERANCE {
            return Err(format!("shares add up to {sum}, must be 1"));
        }
        Ok(())
    }
}

/// A text as the prediction log has it where it keeps no texts: `xxh3_64`, seed 0, of its UTF-8 bytes, as 16 lower-case
/// hexadecimal digits.
#[must_use]
pub fn text_digest(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec() -> FeatureSpec {
        let json = include_bytes!("../../../models/ctr-upworthy/1/feature_spec.json");
        FeatureSpec::parse(json).unwrap()
    }

    fn parse(fields: &str) -> Result<Profile, String> {
        Profile::parse(format!("{{\"fields\": {{{fields}}}}}").as_bytes(), &spec())
    }

    #[test]
    fn groups_come_in_the_order_in_which_they_are_counted() {
        let profile = parse(
            r#""headline_chars": {"kind": "numeric", "edges": [10, 20], "shares": [0.2, 0.3, 0.4], "missing": 0.1},
               "week": {"kind": "categorical", "values": {"201302": 0.25, "201301": 0.5}, "other": 0.25, "missing": 0}"#,
        );
        let profile = profile.unwrap();
        assert_eq!(profile.fields["headline_chars"].shares(), [0.2, 0.3, 0.4, 0.1]);
        assert_eq!(profile.fields["week"].shares(), [0.5, 0.25, 0.25, 0.0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let numeric = |rest: &str| format!(r#""headline_chars": {{"kind": "numeric", {rest}}}"#);
        for (fields, part) in [
            (r#""none": {"kind": "numeric", "edges": [], "shares": [1], "missing": 0}"#.to_owned(), "not a field"),
            (r#""week": {"kind": "numeric", "edges": [], "shares": [1], "missing": 0}"#.to_owned(), "another kind"),
            (
                r#""headline": {"kind": "categorical", "values": {}, "other": 1, "missing": 0}"#.to_owned(),
                "several values",
            ),
            (r#""week": {"kind": "categorical", "values": {"": 1}, "other": 0, "missing": 0}"#.to_owned(), "0 bytes"),
            (numeric(r#""edges": [1], "shares": [1], "missing": 0"#), "needs 2"),
            (numeric(r#""edges": [2, 1], "shares": [1, 0, 0], "missing": 0"#), "ascending"),
            (numeric(r#""edges": [1], "shares": [1.5, -0.5], "missing": 0"#), "0 to 1"),
            (numeric(r#""edges": [1], "shares": [0.5, 0.4], "missing": 0"#), "add up to 0.9"),
            (numeric(r#""edges": [1], "shares": [0.5, 0.5]"#), "missing"),
            (numeric(r#""edges": [1], "shares": [0.5, 0.5], "missing": 0, "extra": 1"#), "extra"),
        ] {
            let error = parse(&fields).unwrap_err();
            assert!(error.contains(part), "{fields}: {error}");
        }
    }

    #[test]
    fn a_digest_has_sixteen_digits() {
        assert_eq!(text_digest("abc"), "78af5f94892f3950");
        // The hash of the empty text, as xxHash publishes it.
        assert_eq!(text_digest(""), "2d06800538d394c2");
        let shortest = (0..10_000).map(|n| text_digest(&n.to_string())).find(|digest| digest.starts_with("00"));
        assert_eq!(shortest.map(|digest| digest.len()), Some(16));
    }
}
