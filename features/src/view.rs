//! Entities and their rows; what views are is the domain's to say, as models name their features.

use std::{
    borrow::Borrow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use compact_str::CompactString;

pub use aibuyer_domain::feature_view::{FeatureColumn, FeatureKind, FeatureValue, FeatureView};

/// What names an entity in its view, such as a campaign's id. Up to 24 bytes it holds them itself, so that comparing keys
/// touches no other memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey(CompactString);

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
            Ok(Self(CompactString::new(key)))
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

/// The features of one entity. A clone shares them.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// When they were computed, by the clock of the store.
    pub computed_at: SystemTime,
    /// One for each column of the view, in its order.
    pub values: Arc<[FeatureValue]>,
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
