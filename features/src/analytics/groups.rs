//! Logged values of features, counted by group.

use std::time::Instant;

use ::clickhouse::Row;
use serde::Deserialize;

use super::{Analytics, AnalyticsError, Log, predictions::of_log};

/// A feature whose values are to be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The name it has in the log.
    pub name: String,
    /// Its groups.
    pub groups: Groups,
}

/// Groups of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Groups {
    /// Numbers, by how many of these ascending edges are at or below them.
    Edges(Vec<f64>),
    /// Texts: each of these by itself, in order, whether the log has it or its digest; then all others.
    Texts {
        /// The texts.
        plain: Vec<String>,
        /// The digest of each.
        digests: Vec<String>,
    },
}

impl Groups {
    /// How many there are, beside the rows without a value.
    fn len(&self) -> usize {
        match self {
            Self::Edges(edges) => edges.len() + 1,
            Self::Texts { plain, .. } => plain.len() + 1,
        }
    }
}

#[derive(Row, Deserialize)]
struct Counted {
    /// From 1.
    field: u32,
    /// From 0; negative without a value.
    group: i32,
    counted: u64,
}

impl Analytics {
    /// How many logged rows have a value of each group; the last count is of rows without a value.
    ///
    /// # Errors
    /// [`AnalyticsError`] says what to do.
    pub async fn values(
        &self,
        log: &Log,
        fields: &[Field],
        deadline: Instant,
    ) -> Result<Vec<Vec<u64>>, AnalyticsError> {
        let turn = self.turn(deadline).await?;
        let (mut names, mut edges, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut text_names, mut known, mut hashed, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, Field { name, groups }) in fields.iter().enumerate() {
            match groups {
                Groups::Edges(of) => {
                    names.push(name);
                    edges.push(of);
                    numbers.push(at);
                }
                Groups::Texts { plain, digests } => {
                    text_names.push(name);
                    known.push(plain);
                    hashed.push(digests);
                    texts.push(at);
                }
            }
        }
        let mut counts: Vec<Vec<u64>> = fields.iter().map(|field| vec![0; field.groups.len() + 1]).collect();
        let queries = [
            (numbers, of_log(&turn, include_str!("numbers.sql"), log).bind(names).bind(edges)),
            (texts, of_log(&turn, include_str!("texts.sql"), log).bind(text_names).bind(known).bind(hashed)),
        ];
        for (places, query) in queries {
            if places.is_empty() {
                continue;
            }
            for Counted { field, group, counted } in turn.rows(query).await? {
                let of_field = places.get(field as usize - 1).and_then(|at| counts.get_mut(*at));
                let Some(of_field) = of_field else { continue };
                let group = usize::try_from(group).unwrap_or(of_field.len() - 1);
                if let Some(count) = of_field.get_mut(group) {
                    *count += counted;
                }
            }
        }
        Ok(counts)
    }
}
