//! A loaded model version that can answer.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use aibuyer_domain::{
    ctr::{Assembler, Calibration, Encoder, FeatureSpec, Level, Rows},
    model::{ServableId, Signature},
};

use crate::{
    batch::{BatchLimits, Batcher, Request, ScoreError, Scores, cost::CostModel, queue::Priority},
    device::Placement,
    error::LoadError,
    requests::Requests,
    stages::{Batching, Kind, Outputs, Places, Warmed},
    tensor::Tensor,
};

/// A loaded model version, of either kind.
///
/// Dropping the last one lets its lanes finish what waits; each then frees a session on its own thread.
#[derive(Debug, Clone)]
pub enum Servable {
    /// Predicts click-through rates.
    Ctr(Arc<CtrServable>),
    /// Any other ONNX model.
    Plain(Arc<PlainServable>),
}

/// What every loaded version has.
#[derive(Debug)]
pub struct Loaded {
    /// Which version.
    pub id: ServableId,
    /// Inputs and outputs in the session's order.
    pub signature: Signature,
    /// Bytes of its files.
    pub bytes: u64,
    /// Where it runs.
    pub placement: Placement,
    /// Processor time of its runs when it was loaded: what a newer version is compared with.
    pub work: CostModel,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// What has become of its requests.
    pub requests: Requests,
    batcher: Batcher,
}

impl Loaded {
    /// Queue and lanes, for their counts.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batcher
    }
}

impl Servable {
    /// Starts the lanes of a warm version.
    ///
    /// # Errors
    /// [`LoadError::Lanes`] when a lane does not start.
    pub fn start(warmed: Warmed, limits: BatchLimits) -> Result<Self, LoadError> {
        let Warmed { verified, sessions, signature, batching, placement, cost, work, largest } = warmed;
        let limits = match batching {
            Batching::Rows => limits,
            Batching::None => BatchLimits { max_batch_rows: 1, padded: false, ..limits },
        };
        let batcher = Batcher::start(&verified.id.to_string(), sessions, limits, largest, cost)?;
        let places = Places::new(&signature);
        let loaded_at = SystemTime::now();
        let loaded = Loaded {
            id: verified.id,
            signature,
            bytes: verified.bytes,
            placement,
            work,
            loaded_at,
            requests: Requests::default(),
            batcher,
        };
        Ok(match verified.kind {
            Kind::Plain => Self::Plain(Arc::new(PlainServable { loaded, batching })),
            Kind::Ctr(files) => Self::Ctr(Arc::new(CtrServable {
                loaded,
                assembler: Assembler::new(&files.spec),
                spec: files.spec,
                encoder: files.encoder,
                calibration: files.calibration,
                places,
            })),
        })
    }
}

impl std::ops::Deref for Servable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        match self {
            Self::Ctr(ctr) => &ctr.loaded,
            Self::Plain(plain) => &plain.loaded,
        }
    }
}

/// A CTR model version with its encoder, its lanes and its calibration: one value, swapped as one.
#[derive(Debug)]
pub struct CtrServable {
    loaded: Loaded,
    /// The checked spec.
    pub spec: FeatureSpec,
    /// From named columns to rows.
    pub encoder: Encoder,
    /// From tensors that the caller encoded to rows.
    pub assembler: Assembler,
    /// What the trainer measured.
    pub calibration: Option<Calibration>,
    places: Places,
}

impl std::ops::Deref for CtrServable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

/// A CTR model's outputs for one request, and where its time went.
pub type CtrScores = Scores<Outputs>;

impl CtrServable {
    /// Rows from tensors in the session's order; as [`Self::score`] takes them.
    #[must_use]
    pub fn rows(&self, tensors: Vec<Tensor>) -> Rows {
        self.places.rows(tensors)
    }

    /// Rows as the session takes them.
    #[must_use]
    pub fn tensors(&self, rows: Rows) -> Vec<Tensor> {
        self.places.tensors(rows)
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
    pub async fn score(
        &self,
        rows: Rows,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<CtrScores, ScoreError> {
        let len = rows.len;
        let request = Request { inputs: self.places.tensors(rows), rows: len, priority, deadline };
        let Scores { outputs, queue, compute, batch_rows } = self.loaded.batcher.score(request, now).await?;
        let outputs = self.places.outputs(outputs, len).map_err(ScoreError::Failed)?;
        Ok(Scores { outputs, queue, compute, batch_rows })
    }
}

/// An ONNX model version without a contract: tensors in, tensors out.
#[derive(Debug)]
pub struct PlainServable {
    loaded: Loaded,
    /// Whether requests may share a run.
    pub batching: Batching,
}

impl std::ops::Deref for PlainServable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}
