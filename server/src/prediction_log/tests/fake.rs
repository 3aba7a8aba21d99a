//! A sink that does as it is told, and rows as a reader of the table sees them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aibuyer_features::CallError;
use bytes::Bytes;
use tokio::time::Instant;

use crate::prediction_log::{Inserting, Sink};

/// How an insert goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// The rows are taken.
    Take,
    /// They are taken, and the acknowledgement is lost.
    LoseAnswer,
    /// Nobody is there.
    Away,
    /// The table is another.
    Refuse,
    /// Nothing happens for a while, then nobody is there.
    Hang,
    /// The rows are taken, after a while.
    Slow,
}

pub(super) const HANG: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct State {
    /// What the next inserts do.
    pub(super) script: VecDeque<Outcome>,
    /// What they do when the script is over.
    pub(super) then: Option<Outcome>,
    /// Refuses batches with this request.
    pub(super) poison: Option<String>,
    calls: Vec<(Instant, String)>,
    /// The table.
    pub(super) rows: Vec<Row>,
    tokens: HashSet<String>,
}

/// Takes rows once a token.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(super) fn that(outcome: Outcome) -> Self {
        let fake = Self::default();
        fake.state().then = Some(outcome);
        fake
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on.
    pub(super) fn does(&self, outcome: Outcome) {
        self.state().then = Some(outcome);
    }

    /// The requests in the table, in the order of arrival.
    pub(super) fn ids(&self) -> Vec<String> {
        self.state().rows.iter().map(|row| row.request_id.clone()).collect()
    }

    /// When what was sent.
    pub(super) fn calls(&self) -> Vec<(Instant, String)> {
        self.state().calls.clone()
    }

    fn call(&self, bytes: &[u8], token: String) -> Outcome {
        let rows = decode(bytes);
        let mut state = self.state();
        let poisoned = state.poison.as_ref().is_some_and(|id| rows.iter().any(|row| row.request_id == *id));
        let outcome = state.script.pop_front().or(state.then).unwrap_or(Outcome::Take);
        let outcome = if poisoned && outcome == Outcome::Take { Outcome::Refuse } else { outcome };
        state.calls.push((Instant::now(), token.clone()));
        if matches!(outcome, Outcome::Take | Outcome::LoseAnswer | Outcome::Slow) && state.tokens.insert(token) {
            state.rows.extend(rows);
        }
        outcome
    }
}

impl Sink for Fake {
    fn insert(&self, rows: Bytes, token: String) -> Inserting {
        let outcome = self.call(&rows, token);
        Box::pin(async move {
            let failed =
                |code, reason: &str| CallError::Failed { url: "u".to_owned(), code, reason: reason.to_owned() };
            match outcome {
                Outcome::Take => Ok(()),
                Outcome::Slow => {
                    tokio::time::sleep(SLOW).await;
                    Ok(())
                }
                Outcome::LoseAnswer | Outcome::Away => {
                    Err(CallError::Unreachable { url: "u".to_owned(), reason: "refused".to_owned() })
                }
                Outcome::Refuse => Err(failed(Some(117), "Code: 117. Unknown field")),
                Outcome::Hang => {
                    tokio::time::sleep(HANG).await;
                    Err(CallError::Timeout { url: "u".to_owned(), within: HANG })
                }
            }
        })
    }
}

/// What of a row the tests look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) request_id: String,
    pub(super) candidate: u32,
    pub(super) user_id: String,
    pub(super) campaign_id: String,
    pub(super) version: String,
    pub(super) score: f32,
    pub(super) lower: Option<f32>,
    pub(super) numbers: Vec<(String, f64)>,
    pub(super) texts: Vec<(String, String)>,
    pub(super) ages: Vec<(String, u32)>,
    pub(super) oldest: u32,
    pub(super) fallback: bool,
}

/// Reads `RowBinaryWithNamesAndTypes` by what the table is known to be.
pub(super) fn decode(bytes: &[u8]) -> Vec<Row> {
    let mut input = Reader(bytes);
    let columns = input.count();
    for _ in 0..2 * columns {
        input.text();
    }
    let mut rows = Vec::new();
    while !input.0.is_empty() {
        input.take::<8>();
        let (request_id, candidate) = (input.text(), u32::from_le_bytes(input.take()));
        let [user_id, campaign_id, _, version] = [input.text(), input.text(), input.text(), input.text()];
        let score = f32::from_le_bytes(input.take());
        let [lower, _, _] = [0; 3].map(|_| (input.take::<1>() == [0]).then(|| f32::from_le_bytes(input.take())));
        let numbers = (0..input.count()).map(|_| (input.text(), f64::from_le_bytes(input.take()))).collect();
        let texts = (0..input.count()).map(|_| (input.text(), input.text())).collect();
        let ages = (0..input.count()).map(|_| (input.text(), u32::from_le_bytes(input.take()))).collect();
        let (oldest, fallback) = (u32::from_le_bytes(input.take()), input.take::<1>() == [1]);
        input.take::<24>();
        rows.push(Row {
            request_id,
            candidate,
            user_id,
            campaign_id,
            version,
            score,
            lower,
            numbers,
            texts,
            ages,
            oldest,
            fallback,
        });
    }
    rows
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        *head
    }

    fn count(&mut self) -> usize {
        let (mut count, mut shift) = (0, 0);
        loop {
            let [byte] = self.take();
            count |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return count;
            }
        }
    }

    fn text(&mut self) -> String {
        let length = self.count();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
}
