//! A version's way from its files to a servable, as types that are used up:
//! [`Located`] → [`Fetched`] → [`Verified`] → [`Opened`] → [`Warmed`].
//!
//! Each step takes the one before by value, so an unverified file cannot be opened and a cold session cannot
//! serve. File contents are read once: what was hashed is what is opened. There are four kinds of models: CTR
//! models (`ctr`) and forecasters (`window`) that are ONNX models under a contract, plain ONNX ones (`plain`), and
//! Prophet's (`forecast`), which have no session and are ready once they are verified.

mod ctr;
mod declared;
mod example;
mod files;
mod forecast;
mod plain;
mod window;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ArtifactStore, ServableId, Signature};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    batch::cost::CostModel,
    device::{Device, Placement},
    error::LoadError,
    onnx::scan,
    session::{ModelFiles, Runtime, Session},
    tensor::Tensor,
};
pub use ctr::{CtrFiles, Outputs, Places};
use declared::Declared;
use example::Example;
use files::{Files, Flavor, MLMODEL, MlModel, is_inside};
pub use forecast::Forecaster;
pub use plain::Batching;
pub use window::WindowFiles;

/// Name of a plain model's file where nothing says otherwise.
const MODEL: &str = "model.onnx";
/// Name of a Prophet model's file where nothing says otherwise.
const PROPHET: &str = "model.pr";
/// Runs that a batch size's cost is learned from, after one that pays for its memory.
const MEASURED_RUNS: usize = 3;

/// A version that the registry knows.
#[derive(Debug)]
pub struct Located {
    /// Which.
    pub id: ServableId,
}

/// Its files are on local disk.
#[derive(Debug)]
pub struct Fetched {
    id: ServableId,
    folder: PathBuf,
}

/// What the files turned out to be.
#[derive(Debug)]
pub enum Checked {
    /// An ONNX model, to be opened.
    Graph(Box<Verified>),
    /// A forecaster, which needs no more.
    Forecast(Box<Forecaster>),
}

/// A version that can answer.
pub enum Prepared {
    /// An ONNX model with warm sessions.
    Graph(Box<Warmed>),
    /// A forecaster.
    Forecast(Box<Forecaster>),
}

/// Its files are whole, and the encoder reproduces the worked examples.
#[derive(Debug)]
pub struct Verified {
    /// Which.
    pub id: ServableId,
    /// What it has beside its graph.
    pub kind: Kind,
    /// Bytes of all files that were read.
    pub bytes: u64,
    file: String,
    model: ModelFiles,
    declared: Declared,
    example: Option<Example>,
}

/// What a model is for.
#[derive(Debug)]
pub enum Kind {
    /// Predicts click-through rates, under the contract.
    Ctr(Box<CtrFiles>),
    /// Forecasts from the last values of a series, under the contract.
    Window(Box<WindowFiles>),
    /// Any other ONNX model.
    Plain,
}

/// The runtime has opened it, once for each lane, and its signature fits.
pub struct Opened {
    verified: Verified,
    sessions: Vec<Box<dyn Session>>,
}

/// Its outputs are right, every session has run, and what runs cost is known.
pub struct Warmed {
    /// Files and kind.
    pub verified: Verified,
    /// One warm session for each lane.
    pub sessions: Vec<Box<dyn Session>>,
    /// Of the sessions, in their order.
    pub signature: Signature,
    /// Whether requests may share a run.
    pub batching: Batching,
    /// Where the sessions run.
    pub placement: Placement,
    /// Measured at every power of two up to the largest batch.
    pub cost: CostModel,
    /// The same, in time of the processor: what else the machine does leaves it as it is. On a GPU time on the clock.
    pub work: CostModel,
    /// Inputs of the largest batch.
    pub largest: Vec<Tensor>,
}

impl Located {
    /// Brings the files to local disk.
    ///
    /// # Errors
    /// [`LoadError::Fetch`].
    pub fn fetch(self, store: &dyn ArtifactStore, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Fetched, LoadError> {
        let folder = store.fetch(&self.id, wanted)?;
        Ok(Fetched { id: self.id, folder })
    }
}

impl Fetched {
    /// The folder `folder` as version `id`, for looking at a model outside any registry.
    #[must_use]
    pub fn local(id: ServableId, folder: impl Into<PathBuf>) -> Self {
        Self { id, folder: folder.into() }
    }

    /// Reads the files and checks them. A CTR model is one with a feature spec, or whose `MLmodel` names the
    /// contract; a forecaster one with a forecast spec, or of Prophet's flavor.
    ///
    /// # Errors
    /// [`LoadError`] names the file and the check.
    pub fn verify(self) -> Result<Checked, LoadError> {
        let mut files = Files { folder: self.folder, bytes: 0 };
        let (has_spec, forecasts) = (files.has(ctr::FEATURE_SPEC), files.has(window::FORECAST_SPEC));
        let mlmodel = match has_spec || forecasts || files.of_mlflow() || !files.has(MODEL) {
            true => Some(MlModel::parse(files.read(MLMODEL)?)?),
            false => None,
        };
        if let Some(MlModel { flavor: Flavor::Prophet, data, .. }) = &mlmodel {
            let file = data.as_deref().unwrap_or(PROPHET);
            return Ok(Checked::Forecast(Box::new(Forecaster::verify(self.id, &mut files, file)?)));
        }
        let mut example = None;
        let (kind, file, model) = match &mlmodel {
            Some(_) if has_spec && forecasts => {
                let reason = "lies beside feature_spec.json: a model has one of the two".to_owned();
                return Err(LoadError::Content { file: window::FORECAST_SPEC.to_owned(), reason });
            }
            Some(mlmodel) if forecasts => {
                let (window, file, model) = WindowFiles::verify(&mut files, mlmodel)?;
                (Kind::Window(Box::new(window)), file, model)
            }
            Some(mlmodel) if has_spec || mlmodel.contract.is_some() => {
                let (ctr, file, model) = CtrFiles::verify(&mut files, mlmodel)?;
                (Kind::Ctr(Box::new(ctr)), file, model)
            }
            mlmodel => {
                let file = mlmodel.as_ref().and_then(|m| m.data.clone()).unwrap_or_else(|| MODEL.to_owned());
                if !is_inside(&file) {
                    return Err(LoadError::MlModel(format!("flavors.onnx.data {file:?} is not inside the artifact")));
                }
                let graph = files.read(&file)?;
                let model = scan(&file, graph, |location| files.external(location))?;
                example = example::find(&mut files)?;
                (Kind::Plain, file, model)
            }
        };
        let declared = mlmodel.map_or_else(Declared::default, |mlmodel| mlmodel.declared);
        Ok(Checked::Graph(Box::new(Verified { id: self.id, kind, bytes: files.bytes, file, model, declared, example })))
    }
}

impl Checked {
    /// Makes it ready to answer, with a session for each of `lanes` where it has sessions. See [`Verified::open`] and
    /// [`Opened::warm`].
    ///
    /// # Errors
    /// Theirs.
    pub fn prepare(
        self,
        runtime: &dyn Runtime,
        lanes: usize,
        max_batch_rows: usize,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Prepared, LoadError> {
        match self {
            Self::Forecast(forecaster) => Ok(Prepared::Forecast(forecaster)),
            Self::Graph(verified) => {
                let warmed = verified.open(runtime, lanes, wanted)?.warm(max_batch_rows, wanted)?;
                Ok(Prepared::Graph(Box::new(warmed)))
            }
        }
    }
}

/// Scans a model file; `read` gives the content of each file that it refers to.
fn scan(
    file: &str,
    graph: Vec<u8>,
    mut read: impl FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<ModelFiles, LoadError> {
    let mut model = ModelFiles::from(graph);
    let mut length = |location: &str| {
        let content = read(location)?;
        let length = content.len() as u64;
        model.external.insert(location.to_owned(), content.into());
        Ok(length)
    };
    scan::scan(&model.graph, &mut length).map_err(|source| LoadError::Scan { file: file.to_owned(), source })?;
    Ok(model)
}

impl Verified {
    /// Opens one session for each lane and checks the model's signature. `wanted` is asked before each session.
    ///
    /// # Errors
    /// [`LoadError::Open`], [`LoadError::Signature`], [`LoadError::Declared`], [`LoadError::Unsupported`] or
    /// [`LoadError::Superseded`].
    pub fn open(mut self, runtime: &dyn Runtime, lanes: usize, wanted: &dyn Fn() -> bool) -> Result<Opened, LoadError> {
        let model = std::mem::take(&mut self.model);
        let opened = runtime.open(&model, lanes, wanted);
        still(wanted)?;
        let sessions = opened.map_err(|source| LoadError::Open { file: self.file.clone(), source })?;
        for session in &sessions {
            let promised = match &self.kind {
                Kind::Ctr(ctr) => Some((ctr::FEATURE_SPEC, ctr.spec.signature())),
                Kind::Window(window) => Some((window::FORECAST_SPEC, window.spec.signature())),
                Kind::Plain => {
                    plain::check(&session.signature())?;
                    None
                }
            };
            let mismatch = promised.and_then(|(spec, promised)| Some((spec, promised.mismatch(&session.signature())?)));
            mismatch.map_or(Ok(()), |(spec, reason)| Err(LoadError::Signature { spec, reason }))?;
            let mismatch = self.declared.mismatch(&session.signature());
            mismatch.map_or(Ok(()), |reason| Err(LoadError::Declared(reason)))?;
        }
        Ok(Opened { verified: self, sessions })
    }
}

impl Opened {
    /// Runs every session: a CTR model on the ends of every field's row range, and a forecaster on the fewest values it
    /// takes; both on the worked examples, alone and as one batch; a plain model on the example that came with it, if one did; any model at every power of two up to `max_batch_rows`, which tells what runs cost.
    /// `wanted` is asked before each run.
    ///
    /// # Errors
    /// [`LoadError::Golden`], [`LoadError::Example`], [`LoadError::WarmUp`] or [`LoadError::Superseded`].
    pub fn warm(mut self, max_batch_rows: usize, wanted: &dyn Fn() -> bool) -> Result<Warmed, LoadError> {
        still(wanted)?;
        let fail = |what: &str, reason: &str| LoadError::WarmUp { what: what.to_owned(), reason: reason.to_owned() };
        let first = self.sessions.first_mut().ok_or_else(|| fail("no lane", "there are no sessions"))?;
        let signature = first.signature();
        let example = match &self.verified.example {
            Some(example) => example.tensors(&signature)?.map(|inputs| (example, inputs)),
            None => None,
        };
        let batching = match &self.verified.kind {
            Kind::Ctr(_) | Kind::Window(_) => Batching::Rows,
            Kind::Plain => plain::batching(first.as_mut(), example.as_ref().map(|(_, inputs)| inputs.as_slice()))?,
        };
        let most = if batching == Batching::Rows { max_batch_rows } else { 1 };
        plain::check_room(&signature, most)?;
        let inputs = |rows: usize| match &self.verified.kind {
            Kind::Ctr(ctr) => Places::new(&signature).tensors(ctr.batch(rows)),
            Kind::Window(window) => vec![window.batch(rows)],
            Kind::Plain => plain::zeros(&signature, rows),
        };
        let mut measured = Measured::default();
        for session in &mut self.sessions {
            match &self.verified.kind {
                Kind::Ctr(ctr) => ctr.check(session.as_mut(), wanted)?,
                Kind::Window(window) => window.check(session.as_mut(), wanted)?,
                Kind::Plain => {}
            }
            if let Some((example, inputs)) = &example {
                still(wanted)?;
                example.check(session.as_mut(), inputs)?;
            }
            for rows in powers_of_two(most) {
                measure(session.as_mut(), rows, &inputs(rows), &mut measured, wanted)?;
            }
        }
        let costs = CostModel::new(&measured.clock).zip(CostModel::new(&measured.work));
        let (cost, work) = costs.ok_or_else(|| fail("any batch", "nothing was measured"))?;
        let largest = inputs(most);
        let Self { verified, sessions } = self;
        let placement = sessions.first().map_or_else(Placement::default, |session| session.placement());
        Ok(Warmed { verified, sessions, signature, batching, placement, cost, work, largest })
    }
}

/// Ends a load that nobody waits for any more.
fn still(wanted: &dyn Fn() -> bool) -> Result<(), LoadError> {
    if wanted() { Ok(()) } else { Err(LoadError::Superseded) }
}

/// 1, 2, 4 … below `most`, and `most`.
fn powers_of_two(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n * 2)).take_while(move |n| *n < most).chain([most])
}

/// Rows of runs, and what each took.
#[derive(Default)]
struct Measured {
    clock: Vec<(usize, Duration)>,
    work: Vec<(usize, Duration)>,
}

/// Time that the processor has spent on this thread.
fn thread_time() -> Duration {
    // The system's figures are never negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn measure(
    session: &mut dyn Session,
    rows: usize,
    inputs: &[Tensor],
    measured: &mut Measured,
    wanted: &dyn Fn() -> bool,
) -> Result<(), LoadError> {
    // A session on the CPU computes on the thread that asks it.
    let here = session.placement().device == Device::Cpu;
    for run in 0..=MEASURED_RUNS {
        still(wanted)?;
        let (started, spent) = (Instant::now(), thread_time());
        let result = session.run(inputs);
        let (took, spent) = (started.elapsed(), thread_time().saturating_sub(spent));
        result.map_err(|e| LoadError::WarmUp { what: format!("a batch of {rows}"), reason: e.to_string() })?;
        if run > 0 {
            measured.clock.push((rows, took));
            measured.work.push((rows, if here { spent } else { took }));
        }
    }
    Ok(())
}
