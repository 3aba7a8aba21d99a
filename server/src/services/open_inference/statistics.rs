//! The statistics extension.

use std::sync::atomic::Ordering::Relaxed;

use aibuyer_loader::{Servable, batch::Batcher, requests::Histogram};
use aibuyer_proto::inference as pb;
use tonic::Status;

use super::{OpenInference, pick};
use crate::status;

impl OpenInference {
    /// What versions have done: one version, those of a model, or all.
    pub(super) fn statistics(&self, name: &str, version: &str) -> Result<Vec<pb::ModelStatistics>, Status> {
        let map = self.serving.load();
        if !version.is_empty() {
            let servable = map.resolve(name, &pick(version)?).map_err(|e| status::from_resolve(&e))?;
            return Ok(vec![Self::of(&servable)]);
        }
        if !name.is_empty() && map.model(name).is_none() {
            map.resolve(name, &pick(version)?).map_err(|e| status::from_resolve(&e))?;
        }
        let models = map.models.iter().filter(|(known, _)| name.is_empty() || known.as_str() == name);
        let servables = models.flat_map(|(_, model)| model.versions.values()).filter_map(|v| v.servable.as_ref());
        Ok(servables.map(Self::of).collect())
    }

    fn of(servable: &Servable) -> pb::ModelStatistics {
        let requests = &servable.requests;
        let batcher = servable.lanes().map(|lanes| &lanes.batcher);
        let counters = batcher.map(Batcher::counters);
        let answered = requests.answered.count();
        let [encode, queue, compute, reply] = &requests.stages;
        let runs = batcher.map(Batcher::runs).unwrap_or_default();
        let batches = runs.into_iter().map(|(rows, runs)| pb::InferBatchStatistics {
            batch_size: rows as u64,
            compute_infer: Some(pb::StatisticDuration {
                count: runs.count,
                ns: u64::try_from(runs.took.as_nanos()).unwrap_or(u64::MAX),
            }),
        });
        pb::ModelStatistics {
            name: servable.id.name.to_string(),
            version: servable.id.version.to_string(),
            last_inference: requests.last_answer(),
            // What runs by itself is one row and one run a request.
            inference_count: counters.map_or(answered, |c| c.rows.load(Relaxed)),
            execution_count: counters.map_or(answered, |c| c.batches.load(Relaxed)),
            inference_stats: Some(pb::InferStatistics {
                success: duration(&requests.answered),
                fail: duration(&requests.failed),
                queue: duration(queue),
                compute_input: duration(encode),
                compute_infer: duration(compute),
                compute_output: duration(reply),
            }),
            batch_stats: batches.collect(),
        }
    }
}

fn duration(histogram: &Histogram) -> Option<pb::StatisticDuration> {
    Some(pb::StatisticDuration { count: histogram.count(), ns: histogram.nanos() })
}
