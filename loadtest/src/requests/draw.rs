//! Values of features: real vocabularies, random keys.

use aibuyer_proto::serving::v1::{self as pb, column::Values as Column};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, LogNormal, StandardNormal, Zipf};

use super::{
    Keys,
    entities::Entities,
    spec::{Feature, Kind, Place, Values},
};

/// Different values of an id that has no vocabulary.
const ANY: u32 = 1_000_000;

/// Draws them, the same for the same seed.
pub(super) struct Draw<'a> {
    random: Xoshiro256PlusPlus,
    keys: Keys,
    entities: &'a Entities,
}

impl<'a> Draw<'a> {
    pub(super) fn new(seed: u64, keys: Keys, entities: &'a Entities) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), keys, entities }
    }

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
            Values::Keys(kind) => self.entity(kind),
            _ => format!("{prefix}{}", self.key(ANY)),
        }
    }

    fn entity(&mut self, kind: &str) -> String {
        let n = self.key(self.entities.count);
        self.entities.format.key(kind, n)
    }

    /// Keys of `rows` rows.
    pub(super) fn entities(&mut self, kind: &str, rows: u32) -> Column {
        Column::Strings(pb::StringValues { values: (0..rows).map(|_| self.entity(kind)).collect() })
    }

    /// Values of `rows` rows.
    pub(super) fn column(&mut self, feature: &Feature, rows: u32) -> Column {
        match &feature.kind {
            Kind::Id { values, list: None } => {
                let values = (0..rows).map(|_| self.text(values, &feature.name)).collect();
                Column::Strings(pb::StringValues { values })
            }
            Kind::Id { values, list: Some(longest) } => {
                let longest = u32::try_from(*longest).unwrap_or(u32::MAX);
                let lengths: Vec<u32> = (0..rows).map(|_| self.random.random_range(1..=longest)).collect();
                let total: u32 = lengths.iter().sum();
                let values = (0..total).map(|_| self.text(values, "word")).collect();
                Column::StringLists(pb::StringListValues { values, lengths })
            }
            Kind::Number { typical, is_count } => {
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
    pub(super) fn ids(&mut self, features: &[&Feature], rows: u32) -> (Vec<u32>, Vec<u8>) {
        let mut slots: Vec<(u32, u32, u32)> = Vec::new();
        for feature in features {
            if let Place::Slots { first_row, rows, slots: own } = &feature.place {
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
    pub(super) fn dense(&mut self, features: &[&Feature], rows: u32) -> (Vec<u32>, Vec<u8>) {
        let number = |f: &&Feature| if let Place::Column(column) = f.place { Some(column) } else { None };
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
mod tests {
    use super::*;

    #[test]
    fn zipf_keys_are_skewed() {
        let entities = Entities::default();
        let mut draw = Draw::new(1, Keys::Zipf, &entities);
        let first = (0..10_000).filter(|_| draw.key(1000) < 10).count();
        // The harmonic numbers say 39 %.
        assert!((3_600..4_200).contains(&first), "{first}");
    }
}
