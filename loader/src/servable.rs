//! A loaded model version that can answer.

use std::{
    sync::{Arc, Weak},
    time::{Instant, SystemTime},
};

use aibuyer_domain::{
    ctr::{Assembler, Calibration, Encoder, FeatureSpec, Level, Profile, Rows, stored::Stored},
    forecast::{Prophet, window::ForecastSpec},
    model::{ServableId, Signature},
};

use crate::{
    batch::{BatchLimits, Batcher, Request, ScoreError, Scores, cost::CostModel, queue::Priority},
    device::Placement,
    error::LoadError,
    requests::Requests,
    stages::{Batching, Forecaster, Kind, Outputs, Places, Prepared, Warmed},
    tensor::{Elements, Tensor},
};

/// A loaded model version, of any kind.
///
/// Dropping the last one lets its lanes finish what waits; each then frees a session on its own thread.
#[derive(Debug, Clone)]
pub enum Servable {
    /// Predicts click-through rates.
    Ctr(Arc<CtrServable>),
    /// Any other ONNX model.
    Plain(Arc<PlainServable>),
    /// Forecasts a time series from its dates: a Prophet model.
    Forecast(Arc<ForecastServable>),
    /// Forecasts a time series from its last values: an ONNX model.
    Window(Arc<WindowServable>),
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
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// What has become of its requests.
    pub requests: Requests,
}

impl Loaded {
    fn new(id: ServableId, signature: Signature, bytes: u64, placement: Placement) -> Self {
        Self { id, signature, bytes, placement, loaded_at: SystemTime::now(), requests: Requests::default() }
    }
}

/// What a version has whose requests share runs of sessions.
#[derive(Debug)]
pub struct Batched {
    /// Queue and lanes.
    pub batcher: Batcher,
    /// Processor time of its runs when it was loaded: what a newer version is compared with.
    pub work: CostModel,
}

impl Servable {
    /// Makes a servable of a version that is ready, and starts its lanes if it has any.
    ///
    /// # Errors
    /// [`LoadError::Lanes`] when a lane does not start.
    pub fn start(prepared: Prepared, limits: BatchLimits) -> Result<Self, LoadError> {
        match prepared {
            Prepared::Graph(warmed) => Self::batched(*warmed, limits),
            Prepared::Forecast(forecaster) => Ok(Self::Forecast(Arc::new(ForecastServable::new(*forecaster)))),
        }
    }

    fn batched(warmed: Warmed, limits: BatchLimits) -> Result<Self, LoadError> {
        let Warmed { verified, sessions, signature, batching, placement, cost, work, largest } = warmed;
        let limits = match batching {
            Batching::Rows => limits,
            Batching::None => BatchLimits { max_batch_rows: 1, preferred_batch_rows: 1, padded: false, ..limits },
        };
        let batcher = Batcher::start(&verified.id.to_string(), sessions, limits, largest, cost)?;
        let places = Places::new(&signature);
        let loaded = Loaded::new(verified.id, signature, verified.bytes, placement);
        let batched = Batched { batcher, work };
        Ok(match verified.kind {
            Kind::Plain => Self::Plain(Arc::new(PlainServable { loaded, batched, batching })),
            Kind::Window(files) => Self::Window(Arc::new(WindowServable { loaded, batched, spec: files.spec })),
            Kind::Ctr(files) => Self::Ctr(Arc::new(CtrServable {
                loaded,
                batched,
                assembler: Assembler::new(&files.spec),
                spec: Arc::new(files.spec),
                encoder: files.encoder,
                stored: files.stored,
                calibration: files.calibration,
                profile: files.profile,
                places,
            })),
        })
    }

    /// Queue, lanes and costs, of a version that has them.
    #[must_use]
    pub fn lanes(&self) -> Option<&Batched> {
        match self {
            Self::Ctr(ctr) => Some(&ctr.batched),
            Self::Plain(plain) => Some(&plain.batched),
            Self::Window(window) => Some(&window.batched),
            Self::Forecast(_) => None,
        }
    }

    /// Upgrades for as long as anything of the version is in memory.
    #[must_use]
    pub fn alive(&self) -> Weak<()> {
        match self {
            Self::Ctr(ctr) => ctr.batched.batcher.lanes(),
            Self::Plain(plain) => plain.batched.batcher.lanes(),
            Self::Window(window) => window.batched.batcher.lanes(),
            Self::Forecast(forecast) => Arc::downgrade(&forecast.alive),
        }
    }
}

impl std::ops::Deref for Servable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        match self {
            Self::Ctr(ctr) => &ctr.loaded,
            Self::Plain(plain) => &plain.loaded,
            Self::Window(window) => &window.loaded,
            Self::Forecast(forecast) => &forecast.loaded,
        }
    }
}

/// A CTR model version with its encoder, its lanes and its calibration: one value, swapped as one.
#[derive(Debug)]
pub struct CtrServable {
    loaded: Loaded,
    batched: Batched,
    /// The checked spec.
    pub spec: Arc<FeatureSpec>,
    /// From named columns to rows.
    pub encoder: Encoder,
    /// What of the columns comes from feature views.
    pub stored: Stored,
    /// From tensors that the caller encoded to rows.
    pub assembler: Assembler,
    /// What the trainer measured.
    pub calibration: Option<Calibration>,
    /// How features were distributed in training, if the trainer said so.
    pub profile: Option<Profile>,
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
    /// Queue and lanes.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batched.batcher
    }

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
        let Scores { outputs, queue, compute, batch_rows } = self.batched.batcher.score(request, now).await?;
        let outputs = self.places.outputs(outputs, len).map_err(ScoreError::Failed)?;
        Ok(Scores { outputs, queue, compute, batch_rows })
    }
}

/// An ONNX model version without a contract: tensors in, tensors out.
#[derive(Debug)]
pub struct PlainServable {
    loaded: Loaded,
    batched: Batched,
    /// Whether requests may share a run.
    pub batching: Batching,
}

impl std::ops::Deref for PlainServable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

impl PlainServable {
    /// Queue and lanes.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batched.batcher
    }
}

/// A forecaster version that is an ONNX model: windows of values in, quantiles out.
#[derive(Debug)]
pub struct WindowServable {
    loaded: Loaded,
    batched: Batched,
    /// The checked spec.
    pub spec: ForecastSpec,
}

impl std::ops::Deref for WindowServable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

impl WindowServable {
    /// Queue and lanes.
    #[must_use]
    pub fn batcher(&self) -> &Batcher {
        &self.batched.batcher
    }

    /// Runs one series' window through the model: its quantiles by step, as the model gives them. See
    /// [`Batcher::score`].
    ///
    /// # Errors
    /// [`ScoreError`] says whether a retry makes sense.
    pub async fn score(
        &self,
        window: Vec<f32>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Scores<Vec<f32>>, ScoreError> {
        let inputs = vec![Tensor::matrix(1, Elements::F32(window))];
        let request = Request { inputs, rows: 1, priority: Priority::Normal, deadline };
        let Scores { outputs, queue, compute, batch_rows } = self.batched.batcher.score(request, now).await?;
        match outputs.into_iter().next().map(|tensor| tensor.elements) {
            Some(Elements::F32(outputs)) => Ok(Scores { outputs, queue, compute, batch_rows }),
            other => Err(ScoreError::Failed(format!("no float32 came out, but {other:?}"))),
        }
    }
}

/// A Prophet model version. It is evaluated by whoever asks, on a thread of theirs: there is no session.
#[derive(Debug)]
pub struct ForecastServable {
    loaded: Loaded,
    /// The fitted model.
    pub model: Arc<Prophet>,
    /// SHA-256 of its file: equal models give equal forecasts.
    pub digest: [u8; 32],
    alive: Arc<()>,
}

impl ForecastServable {
    fn new(forecaster: Forecaster) -> Self {
        let Forecaster { id, model, digest, bytes } = forecaster;
        let loaded = Loaded::new(id, Signature::default(), bytes, Placement::default());
        Self { loaded, model: Arc::new(model), digest, alive: Arc::default() }
    }
}

impl std::ops::Deref for ForecastServable {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}
