//! A loaded model version that can answer.

use std::time::{Instant, SystemTime};

use aibuyer_domain::{
    ctr::{Assembler, Calibration, Encoder, FeatureSpec, Level, Rows},
    model::ServableId,
};

use crate::{
    batch::{BatchLimits, Batcher, ScoreError, Scores},
    error::LoadError,
    stages::Warmed,
};

/// A CTR model version with its encoder, its lanes and its calibration: one value, swapped as one.
///
/// Dropping it lets its lanes finish what waits; each then frees its session on its own thread.
#[derive(Debug)]
pub struct CtrServable {
    /// Which version.
    pub id: ServableId,
    /// The checked spec.
    pub spec: FeatureSpec,
    /// From named columns to rows.
    pub encoder: Encoder,
    /// From tensors that the caller encoded to rows.
    pub assembler: Assembler,
    /// What the trainer measured.
    pub calibration: Option<Calibration>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    batcher: Batcher,
}

impl CtrServable {
    /// Starts the lanes of a warm version.
    ///
    /// # Errors
    /// [`LoadError::Lanes`] when a lane does not start.
    pub fn start(warmed: Warmed, limits: BatchLimits) -> Result<Self, LoadError> {
        let Warmed { verified, sessions } = warmed;
        let first = verified.examples(limits.max_batch_rows);
        let batcher = Batcher::start(&verified.id.to_string(), sessions, limits, first)?;
        Ok(Self {
            id: verified.id,
            assembler: Assembler::new(&verified.spec),
            spec: verified.spec,
            encoder: verified.encoder,
            calibration: verified.calibration,
            bytes: verified.bytes,
            loaded_at: SystemTime::now(),
            batcher,
        })
    }

    /// The level of intervals for a request that names none; `None` where the model has no intervals.
    #[must_use]
    pub fn default_level(&self) -> Option<Level> {
        self.spec.interval.as_ref().and_then(|i| Level::new(i.default_level).ok())
    }

    /// Runs encoded rows through the model; see [`Batcher::score`].
    ///
    /// # Errors
    /// [`ScoreError`] says whether a retry makes sense.
    pub async fn score(&self, rows: Rows, now: Instant, deadline: Instant) -> Result<Scores, ScoreError> {
        self.batcher.score(rows, now, deadline).await
    }

    /// Queue and lanes, for their counts.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batcher
    }
}
