//! `aibuyer-hash-v1`: the one way strings become rows.
//!
//! `xxh3_64(seed 0)` over `utf8(field) || 0x1F || utf8(value)`, read as an unsigned 64-bit number; the row
//! is `2 + hash mod buckets`, counted from the field's first row. Normalisation touches ASCII bytes only:
//! Unicode tables differ between versions and would make trainer and server disagree.

use std::num::NonZeroU32;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

/// Name of the only hash scheme that artifacts may use.
pub const SCHEME: &str = "aibuyer-hash-v1";

/// Row of a missing value, counted from the field's first row.
pub const ROW_MISSING: u32 = 0;
/// Row of a value outside the vocabulary, counted from the field's first row.
pub const ROW_UNKNOWN: u32 = 1;
/// First row of real values, counted from the field's first row.
pub const ROW_FIRST: u32 = 2;

/// One normalisation of text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Removes tab, line feed, form feed, carriage return and space at both ends; nothing else, unlike
    /// Python's `str.strip`.
    TrimAscii,
    /// Turns `A` to `Z` into `a` to `z`; nothing else.
    AsciiLower,
}

/// All normalisations of a field. Lowering changes no white space, so the order of the two never matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normalizer {
    trim: bool,
    lower: bool,
}

impl Normalizer {
    pub(super) fn new(steps: &[Normalize]) -> Self {
        Self { trim: steps.contains(&Normalize::TrimAscii), lower: steps.contains(&Normalize::AsciiLower) }
    }

    /// What of it can change any part of `text`.
    pub(super) fn within(self, text: &str) -> Self {
        Self { lower: self.lower && text.bytes().fold(false, |any, byte| any | byte.is_ascii_uppercase()), ..self }
    }

    /// `value` normalised. Borrows where no byte changes, else writes into `scratch`.
    pub(super) fn apply<'a>(self, value: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let value = if self.trim { value.trim_ascii() } else { value };
        if self.lower && value.iter().any(u8::is_ascii_uppercase) {
            scratch.clear();
            scratch.extend(value.iter().map(u8::to_ascii_lowercase));
            scratch
        } else {
            value
        }
    }
}

/// Hashes the values of one field into its buckets.
#[derive(Debug, Clone)]
pub struct FieldHash {
    prefix: Vec<u8>,
    buckets: NonZeroU32,
}

impl FieldHash {
    /// A hasher for `field`.
    #[must_use]
    pub fn new(field: &str, buckets: NonZeroU32) -> Self {
        let mut prefix = field.as_bytes().to_vec();
        prefix.push(0x1f);
        Self { prefix, buckets }
    }

    /// Starts hashing values of the field, in the buffer `message`.
    pub fn begin<'a>(&'a self, message: &'a mut Vec<u8>) -> Hashing<'a> {
        message.clear();
        message.extend_from_slice(&self.prefix);
        Hashing { field: self, message }
    }
}

/// Hashes value after value of a field: its name is written once.
#[derive(Debug)]
pub struct Hashing<'a> {
    field: &'a FieldHash,
    message: &'a mut Vec<u8>,
}

impl Hashing<'_> {
    /// The 64-bit hash of a normalised value.
    #[must_use]
    pub fn hash(&mut self, value: &[u8]) -> u64 {
        self.message.truncate(self.field.prefix.len());
        self.message.extend_from_slice(value);
        xxh3_64(self.message)
    }

    /// The row of a normalised, non-empty value, counted from the field's first row.
    #[must_use]
    pub fn row(&mut self, value: &[u8]) -> u32 {
        let bucket = self.hash(value) % u64::from(self.field.buckets.get());
        ROW_FIRST + u32::try_from(bucket).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        field: String,
        value: String,
        trim_ascii: bool,
        ascii_lower: bool,
        normalized_utf8_hex: String,
        missing: bool,
        xxh3_64: Option<String>,
        buckets: Option<NonZeroU32>,
        row: u32,
    }

    #[test]
    fn reproduces_every_published_vector() {
        let text = include_str!("../../testdata/hash_vectors.json");
        let vectors: Vectors = serde_json::from_str(text).expect("hash_vectors.json");
        assert_eq!(vectors.vectors.len(), 29);
        for v in vectors.vectors {
            let mut steps = Vec::new();
            if v.trim_ascii {
                steps.push(Normalize::TrimAscii);
            }
            if v.ascii_lower {
                steps.push(Normalize::AsciiLower);
            }
            let (mut lowered, mut message) = (Vec::new(), Vec::new());
            let value = Normalizer::new(&steps).apply(v.value.as_bytes(), &mut lowered);
            let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, v.normalized_utf8_hex, "{:?}", v.value);
            assert_eq!(value.is_empty(), v.missing, "{:?}", v.value);
            if let (Some(hash), Some(buckets)) = (v.xxh3_64, v.buckets) {
                let field = FieldHash::new(&v.field, buckets);
                let mut hashing = field.begin(&mut message);
                assert_eq!(hashing.hash(value).to_string(), hash, "{:?}", v.value);
                assert_eq!(hashing.row(value), v.row, "{:?}", v.value);
            } else {
                assert_eq!(v.row, ROW_MISSING);
            }
        }
    }
}
