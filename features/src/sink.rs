//! The prediction log: rows on their way into ClickHouse.
//!
//! [`PredictionRows`] writes rows as `RowBinaryWithNamesAndTypes`, which says what it holds: the same bytes can be kept in
//! a file and sent later, and a table that has changed refuses them by name. [`PredictionSink`] sends them, all or none.

use std::{borrow::Cow, time::Duration};

use ::clickhouse::Client;
use bytes::Bytes;

use crate::{
    CallError, Connection,
    call::bounded,
    schema::tables::{PREDICTION_LOG, columns},
};

/// A scored candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PredictionRow<'a> {
    /// When the reply was made, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Names the request.
    pub request_id: &'a str,
    /// Its index among the candidates.
    pub candidate: u32,
    /// Account; empty where the request names none.
    pub user_id: &'a str,
    /// Campaign; empty where the request names none.
    pub campaign_id: &'a str,
    /// Model.
    pub model: &'a str,
    /// Version of the model.
    pub model_version: &'a str,
    /// Click-through rate.
    pub score: f32,
    /// Lower and upper bound of its interval.
    pub bounds: Option<(f32, f32)>,
    /// Level of the interval.
    pub level: Option<f32>,
    /// Numeric features by input name.
    pub numbers: &'a [(&'a str, f64)],
    /// Other features by input name.
    pub texts: &'a [(&'a str, Cow<'a, str>)],
    /// Age of the stored features that were used, by feature view, in milliseconds.
    pub feature_ages_ms: &'a [(&'a str, u32)],
    /// Whether defaults stood in for stored features.
    pub feature_fallback: bool,
    /// Where the time went.
    pub stages: Stages,
    /// Rows of the batch that it was scored in.
    pub batch_rows: u32,
}

/// Microseconds of a request's stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// From names and values to tensors.
    pub encode_us: u32,
    /// Looking up stored features.
    pub features_us: u32,
    /// Waiting for a lane.
    pub queue_us: u32,
    /// The model.
    pub compute_us: u32,
    /// All of it.
    pub total_us: u32,
}

/// Rows as ClickHouse takes them.
#[derive(Debug, Clone)]
pub struct PredictionRows {
    bytes: Vec<u8>,
    len: usize,
}

impl Default for PredictionRows {
    fn default() -> Self {
        let mut rows = Self { bytes: Vec::new(), len: 0 };
        rows.count(columns(PREDICTION_LOG).count());
        columns(PREDICTION_LOG).for_each(|(name, _)| rows.text(name));
        columns(PREDICTION_LOG).for_each(|(_, kind)| rows.text(kind));
        rows
    }
}

impl PredictionRows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What [`PredictionSink::insert`] takes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// Adds a row, unless it would take more than `most` bytes; says whether it did.
    pub fn push(&mut self, row: &PredictionRow, most: usize) -> bool {
        let before = self.bytes.len();
        self.write(row);
        let fits = self.bytes.len() - before <= most;
        if fits {
            self.len += 1;
        } else {
            self.bytes.truncate(before);
        }
        fits
    }

    /// In the order of the table's columns.
    fn write(&mut self, row: &PredictionRow) {
        self.bytes.extend(row.at_ms.to_le_bytes());
        self.text(row.request_id);
        self.number(row.candidate);
        for text in [row.user_id, row.campaign_id, row.model, row.model_version] {
            self.text(text);
        }
        self.bytes.extend(row.score.to_le_bytes());
        for nullable in [row.bounds.map(|(lower, _)| lower), row.bounds.map(|(_, upper)| upper), row.level] {
            self.bytes.push(u8::from(nullable.is_none()));
            self.bytes.extend(nullable.iter().flat_map(|value| value.to_le_bytes()));
        }
        self.count(row.numbers.len());
        for (name, value) in row.numbers {
            self.text(name);
            self.bytes.extend(value.to_le_bytes());
        }
        self.count(row.texts.len());
        for (name, value) in row.texts {
            self.text(name);
            self.text(value);
        }
        self.count(row.feature_ages_ms.len());
        for (name, age) in row.feature_ages_ms {
            self.text(name);
            self.number(*age);
        }
        self.number(row.feature_ages_ms.iter().map(|(_, age)| *age).max().unwrap_or(0));
        self.bytes.push(row.feature_fallback.into());
        let Stages { encode_us, features_us, queue_us, compute_us, total_us } = row.stages;
        for number in [encode_us, features_us, queue_us, compute_us, total_us, row.batch_rows] {
            self.number(number);
        }
    }

    fn number(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes.extend(text.as_bytes());
    }

    /// A length: seven bits a byte, the lowest first.
    #[allow(clippy::cast_possible_truncation)] // the low bits are what is wanted
    fn count(&mut self, count: usize) {
        let mut rest = count;
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }
}

/// Writes to the table `prediction_log`.
#[derive(Clone)]
pub struct PredictionSink {
    client: Client,
    url: String,
    within: Duration,
}

impl PredictionSink {
    /// Each insert must be acknowledged `within` the time.
    #[must_use]
    pub fn new(connection: &Connection, within: Duration) -> Self {
        let client = connection
            .client()
            // An insert is acknowledged when its rows are in the table, and its token is looked at.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            // A column that the table lacks is an error: it would be dropped without a word.
            .with_setting("input_format_skip_unknown_fields", "0");
        Self { client, url: connection.url.clone(), within }
    }

    /// Adds rows to the table, all or none, once a token however often it is sent: where an acknowledgement was lost,
    /// send the same rows with the same token again.
    ///
    /// ClickHouse keeps the tokens with the table, over restarts and for each partition: rows on both sides of midnight
    /// become two parts, of which a second send adds only the one that is not there. It keeps the last 10,000 of them.
    ///
    /// # Errors
    /// When the rows are not known to be there. [`CallError::is_schema`] tells a table that does not take them.
    pub async fn insert(&self, rows: Bytes, token: &str) -> Result<(), CallError> {
        let call = async {
            let insert =
                self.client.insert_formatted_with("INSERT INTO prediction_log FORMAT RowBinaryWithNamesAndTypes");
            let mut insert = insert.with_setting("insert_deduplication_token", token);
            insert.send(rows).await?;
            insert.end().await
        };
        bounded(&self.url, self.within, call).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clickhouse_types::parse_rbwnat_columns_header;

    use super::*;

    #[test]
    fn the_bytes_name_their_columns_and_hold_each_row() {
        let mut rows = PredictionRows::default();
        let header = rows.size();
        let texts = [("headline", Cow::Borrowed("x".repeat(200).leak() as &str))];
        let row = PredictionRow { request_id: "r", score: 0.5, texts: &texts, ..PredictionRow::default() };
        assert!(rows.push(&row, 1000) && rows.push(&PredictionRow::default(), 1000));
        assert_eq!((rows.len(), rows.is_empty()), (2, false));
        let bytes = rows.clone().into_bytes();
        let mut input = &bytes[..];
        let found = parse_rbwnat_columns_header(&mut input).unwrap();
        let found: Vec<_> = found.iter().map(|c| (c.name.clone(), c.data_type.to_string())).collect();
        let wanted: Vec<_> = columns(PREDICTION_LOG).map(|(n, k)| (n.to_owned(), k.to_owned())).collect();
        assert_eq!(found, wanted);
        // Fixed widths, a byte for each empty text, map and null; the first row has "r" and a map of one: a length of two bytes.
        let empty = 8 + 1 + 4 + 4 + 4 + 3 + 3 + 4 + 1 + 6 * 4;
        assert_eq!(bytes.len() - header, 2 * empty + 1 + (1 + 8) + (2 + 200));
        assert_eq!(input.len(), bytes.len() - header);
    }

    #[test]
    fn a_row_that_is_too_large_leaves_no_trace() {
        let mut rows = PredictionRows::default();
        let header = rows.size();
        let long = "x".repeat(100);
        assert!(!rows.push(&PredictionRow { request_id: &long, ..PredictionRow::default() }, 100));
        assert_eq!((rows.len(), rows.size()), (0, header));
    }
}
