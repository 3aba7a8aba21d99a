//! What the engine measures of itself, for Prometheus.
//!
//! Durations of calls are recorded as they happen. Everything about models is read from the serving map when
//! Prometheus asks, so it cannot drift from what is there and ends with the version. So is the prediction log.

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use aibuyer_loader::{
    Phase, Servable,
    batch::Batcher,
    device::Placement,
    requests::{BOUNDS, Histogram as Stage, STAGES},
    serving_map::{Serving, VersionEntry},
};
use aibuyer_registry::Problems;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

/// Bucket bounds in seconds: from 100 µs, where a bid's time begins to count, to 10 s.
const SECONDS: [f64; 16] =
    [1e-4, 2e-4, 3e-4, 5e-4, 7.5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0];
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc_method: String,
    rpc_response_status_code: &'static str,
}

/// The engine's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Histogram>,
}

impl Metrics {
    pub(crate) fn new(serving: Serving, problems: Problems, placement: &Placement) -> Self {
        let mut registry = Registry::default();
        let calls: Family<_, Histogram> = Family::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register(
            "rpc_server_call_duration_seconds",
            "Time from a call's arrival to its answer, by method and gRPC code",
            calls.clone(),
        );
        registry.register_collector(Box::new(Models { serving, problems, device: placement.clone() }));
        Self { registry: Mutex::new(registry), calls }
    }

    /// Adds what another room of the engine counts.
    pub(crate) fn add(&self, collector: impl Collector) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    pub(crate) fn call(&self, method: &str, code: &'static str, elapsed: Duration) {
        // Anybody can make up a method: those that do not exist share one label.
        let rpc_method = if code == "UNIMPLEMENTED" { "other" } else { method }.to_owned();
        let labels = CallLabels { rpc_method, rpc_response_status_code: code };
        self.calls.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// The metrics as OpenMetrics text.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

/// Reads the serving map and the registry's problems.
#[derive(Debug)]
struct Models {
    serving: Serving,
    problems: Problems,
    device: Placement,
}

pub(crate) type Labels = Vec<(&'static str, String)>;

/// A placement as labels.
fn labels_of(placement: &Placement) -> Labels {
    vec![("device", placement.device.to_string()), ("reason", placement.reason.clone())]
}

impl Collector for Models {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let problems = self.problems.list().len() as u64;
        let help = "Problems of the registry, listed on the status page";
        let kind = prometheus_client::metrics::MetricType::Gauge;
        ConstGauge::new(problems).encode(encoder.encode_descriptor(
            "aibuyer_registry_problems",
            help,
            None,
            kind,
        )?)?;
        let device = std::iter::once((labels_of(&self.device), 1));
        gauges(&mut encoder, "aibuyer_device", "1, for where models run, and why there", device)?;
        let map = self.serving.load();
        let versions: Vec<(Labels, &VersionEntry)> = map
            .models
            .iter()
            .flat_map(|(name, model)| model.versions.iter().map(move |(version, entry)| (name, version, entry)))
            .map(|(name, version, entry)| (vec![("model", name.to_string()), ("version", version.to_string())], entry))
            .collect();
        let with = |labels: &Labels, key, value: &str| [labels.clone(), vec![(key, value.to_owned())]].concat();

        let phases = versions.iter().flat_map(|(labels, entry)| {
            Phase::NAMES.map(|name| (with(labels, "phase", name), u64::from(entry.phase.name() == name)))
        });
        gauges(&mut encoder, "aibuyer_model_phase", "1 for the phase a model version is in, else 0", phases)?;
        let failures = versions.iter().filter_map(|(labels, entry)| {
            match &entry.phase {
                Phase::Failed(failure) => Some(failure),
                _ => entry.refused.as_ref(),
            }
            .map(|failure| (with(labels, "check", failure.check), u64::from(failure.attempts)))
        });
        gauges(&mut encoder, "aibuyer_model_load_failures", "Loads failed in a row, by failed check", failures)?;

        let routes = map.models.iter().flat_map(|(name, model)| {
            let route = |alias: &str| vec![("model", name.to_string()), ("alias", alias.to_owned())];
            let default = model.routes.default.map(|version| (route(""), version.get()));
            let aliases = model.routes.aliases.iter().map(move |(a, version)| (route(a.as_str()), version.get()));
            default.into_iter().chain(aliases)
        });
        let help = "The version that answers for an alias; under an empty alias, for requests that name none";
        gauges(&mut encoder, "aibuyer_model_route_version", help, routes)?;
        let lost = map.models.iter().flat_map(|(name, model)| {
            model.lost.iter().map(|a| (vec![("model", name.to_string()), ("alias", a.to_string())], 1))
        });
        let help = "1 for each alias that answers although the registry has it no more";
        gauges(&mut encoder, "aibuyer_model_route_lost", help, lost)?;

        let ready: Vec<(&Labels, &Servable)> =
            versions.iter().filter_map(|(labels, entry)| Some((labels, entry.servable.as_ref()?))).collect();
        let batched: Vec<(&Labels, &Batcher)> =
            ready.iter().filter_map(|(labels, s)| Some((*labels, &s.lanes()?.batcher))).collect();
        let devices = ready.iter().map(|(labels, s)| {
            let graphs = with(labels, "cuda_graphs", &s.placement.graphs.to_string());
            ([graphs, labels_of(&s.placement)].concat(), 1)
        });
        gauges(
            &mut encoder,
            "aibuyer_model_device",
            "1, for where a model version runs, and why there and so",
            devices,
        )?;
        let bytes = ready.iter().map(|(labels, s)| ((*labels).clone(), s.bytes));
        gauges(&mut encoder, "aibuyer_model_file_bytes", "Size of a model version's files", bytes)?;
        let waiting = batched.iter().map(|(labels, b)| ((*labels).clone(), b.waiting_rows() as u64));
        gauges(&mut encoder, "aibuyer_queue_rows", "Rows waiting for a lane", waiting)?;
        let batches =
            batched.iter().map(|(labels, b)| ((*labels).clone(), b.counters().batches.load(Ordering::Relaxed)));
        counters(&mut encoder, "aibuyer_batches", "Batches run", batches)?;
        let kind = prometheus_client::metrics::MetricType::Histogram;
        let help = "Time of a prediction's stages: encode, queue, compute, reply";
        let mut stages = encoder.encode_descriptor("aibuyer_stage_duration_seconds", help, None, kind)?;
        for (labels, servable) in &ready {
            for (stage, histogram) in STAGES.iter().zip(&servable.requests.stages) {
                histogram_of(&mut stages, &with(labels, "stage", stage), histogram)?;
            }
        }
        let rows = batched.iter().flat_map(|(labels, b)| {
            let c = b.counters();
            [
                ("computed", &c.rows),
                ("expired", &c.expired_rows),
                ("abandoned", &c.abandoned_rows),
                ("late", &c.late_rows),
                ("wasted", &c.wasted_rows),
                ("refused", &c.refused_rows),
                ("failed", &c.failed_rows),
                ("not_finite", &c.not_finite_rows),
            ]
            .map(|(outcome, n)| (with(labels, "outcome", outcome), n.load(Ordering::Relaxed)))
        });
        counters(
            &mut encoder,
            "aibuyer_rows",
            "Rows by outcome: computed; of those not_finite, and wasted: nobody waited any more; expired or abandoned \
             before compute; not admitted: refused, queue full, or late, past the deadline by prediction; failed",
            rows,
        )
    }
}

fn histogram_of(encoder: &mut MetricEncoder, labels: &Labels, histogram: &Stage) -> fmt::Result {
    let counts = histogram.counts();
    let bounds = BOUNDS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    let seconds = Duration::from_nanos(histogram.nanos()).as_secs_f64();
    encoder.encode_family(labels)?.encode_histogram::<NoLabelSet>(seconds, counts.iter().sum(), &buckets, None)
}

pub(crate) fn gauges(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(crate) fn counters(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let kind = prometheus_client::metrics::MetricType::Counter;
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}
