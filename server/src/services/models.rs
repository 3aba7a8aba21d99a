//! `aibuyer.serving.v1.ModelService`: which models serve, since when, and why a version does not.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Instant, SystemTime},
};

use aibuyer_domain::model::{Alias, ModelName, Pick, Version};
use aibuyer_loader::{
    Failure, Phase,
    serving_map::{ModelEntry, Serving, VersionEntry},
};
use aibuyer_proto::serving::v1::{self as pb, model_service_server::ModelService};
use aibuyer_registry::Problems;
use tonic::{Request, Response, Status};

use crate::{promotions::Promotions, status};

/// Tells of models.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    pub(crate) serving: Serving,
    pub(crate) promotions: Arc<Promotions>,
    pub(crate) problems: Problems,
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let name = request.into_inner().name;
        let map = self.serving.load_full();
        if !name.is_empty() && map.model(&name).is_none() {
            return Err(match map.resolve(&name, &Pick::Default) {
                Err(error) => status::from_resolve(&error),
                Ok(_) => status::invalid_field("name", "has just come; ask again"),
            });
        }
        let wanted = map.models.iter().filter(|(model, _)| name.is_empty() || model.as_str() == name);
        let models = wanted.map(|(name, model)| self.model(name, model)).collect();
        Ok(Response::new(pb::ListModelsResponse { models, registry_problems: self.problems.list() }))
    }
}

impl Models {
    fn model(&self, name: &ModelName, model: &ModelEntry) -> pb::ModelStatus {
        let recent = self.promotions.recent(name.as_str());
        let transitions = recent.into_iter().map(|entry| pb::ModelTransition {
            at: timestamp(&entry.at),
            version: entry.version,
            description: entry.text(),
        });
        pb::ModelStatus {
            name: name.to_string(),
            ready: model.ready(),
            routes: self.routes(name, model),
            versions: model.versions.iter().map(|(version, entry)| version_status(*version, entry)).collect(),
            transitions: transitions.collect(),
        }
    }

    fn routes(&self, name: &ModelName, model: &ModelEntry) -> Vec<pb::ModelRoute> {
        let route = |alias: Option<&Alias>, version: Option<Version>, wanted: Option<Version>, lost: bool| {
            let alias = alias.map(Alias::as_str);
            let since = version.and_then(|_| self.promotions.since(name.as_str(), alias));
            pb::ModelRoute {
                alias: alias.unwrap_or_default().to_owned(),
                version: version.map_or(0, Version::get),
                wanted_version: wanted.map_or(0, Version::get),
                lost,
                since: since.as_deref().and_then(timestamp),
            }
        };
        let (routes, wanted) = (&model.routes, &model.wanted);
        let default = routes.default.or(wanted.default).map(|_| route(None, routes.default, wanted.default, false));
        let aliases: BTreeSet<&Alias> = routes.aliases.keys().chain(wanted.aliases.keys()).collect();
        let aliases = aliases.into_iter().map(|alias| {
            let (version, wanted) = (routes.aliases.get(alias), wanted.aliases.get(alias));
            route(Some(alias), version.copied(), wanted.copied(), model.lost.contains(alias))
        });
        default.into_iter().chain(aliases).collect()
    }
}

fn version_status(version: Version, entry: &VersionEntry) -> pb::ModelVersionStatus {
    let (phase, failure) = match &entry.phase {
        Phase::Pending => (pb::ModelPhase::Pending, None),
        Phase::Loading => (pb::ModelPhase::Loading, None),
        Phase::Ready => (pb::ModelPhase::Ready, entry.refused.as_ref()),
        Phase::Draining => (pb::ModelPhase::Draining, None),
        Phase::Failed(failure) => (pb::ModelPhase::Failed, Some(failure)),
    };
    let servable = entry.servable.as_ref();
    pb::ModelVersionStatus {
        version: version.get(),
        phase: phase.into(),
        refusal: failure.map(refusal),
        loaded_at: servable.map(|s| s.loaded_at.into()),
        file_bytes: servable.map_or(0, |s| s.bytes),
        device: servable.map(|s| s.placement.device.to_string()).unwrap_or_default(),
    }
}

fn refusal(failure: &Failure) -> pb::ModelRefusal {
    pb::ModelRefusal {
        check: failure.check.to_owned(),
        reason: failure.reason.clone(),
        attempts: failure.attempts,
        retry_in: failure.retry_at.saturating_duration_since(Instant::now()).try_into().ok(),
    }
}

fn timestamp(rfc3339: &str) -> Option<prost_types::Timestamp> {
    humantime::parse_rfc3339(rfc3339).ok().map(SystemTime::into)
}
