//! Features now against features of the training.

use std::time::Instant;

use aibuyer_domain::{
    ctr::{FieldProfile, FieldSpec, text_digest},
    model::{Pick, Version},
    quality::{Reading, drift},
};
use aibuyer_features::analytics::{Analytics as Past, Field, Groups, Log};
use aibuyer_loader::Servable;
use aibuyer_proto::serving::v1 as pb;
use tonic::Status;

use super::Analytics;
use crate::status;

impl Analytics {
    /// The drift of each feature of the version's profile; the inner error says why there is none.
    pub(super) async fn drift(
        &self,
        past: &Past,
        log: &Log,
        deadline: Instant,
    ) -> Result<Result<Vec<pb::FeatureDrift>, String>, Status> {
        let profile = match self.profile(log) {
            Ok(profile) => profile,
            Err(reason) => return Ok(Err(reason)),
        };
        let fields: Vec<Field> = profile.iter().map(|(name, of)| field(name.clone(), of)).collect();
        let counts = past.values(log, &fields, deadline).await.map_err(|e| status::from_analytics(&e))?;
        Ok(Ok(profile.into_iter().zip(counts).map(|((name, of), counts)| message(name, &of, &counts)).collect()))
    }

    /// The training profile of the version by input name, which is what the log calls features by.
    fn profile(&self, log: &Log) -> Result<Vec<(String, FieldProfile)>, String> {
        let version = Version::new(log.version).ok_or("there is no version 0")?;
        let servable = self.serving.load().resolve(&log.model, &Pick::Version(version)).map_err(|error| {
            format!("the training profile is in the version's files, and it is not loaded: {error}")
        })?;
        let Servable::Ctr(ctr) = servable else {
            return Err(format!("{} is not a CTR model", log.model));
        };
        let Some(profile) = &ctr.profile else {
            return Err("the version has no training profile: export it with one (docs/model-contract.md)".to_owned());
        };
        let input = |name: &str| ctr.spec.fields.iter().find(|field| field.name() == name).map(FieldSpec::input);
        let inputs = profile.fields.iter().filter_map(|(name, of)| Some((input(name)?.to_owned(), of.clone())));
        let mut inputs: Vec<_> = inputs.collect();
        inputs.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(inputs)
    }
}

fn field(name: String, of: &FieldProfile) -> Field {
    let groups = match of {
        FieldProfile::Numeric { edges, .. } => Groups::Edges(edges.clone()),
        FieldProfile::Categorical { values, .. } => Groups::Texts {
            plain: values.keys().cloned().collect(),
            digests: values.keys().map(|text| text_digest(text)).collect(),
        },
    };
    Field { name, groups }
}

#[allow(clippy::cast_precision_loss)] // a share of so great counts is right all the same
fn message(feature: String, of: &FieldProfile, counts: &[u64]) -> pb::FeatureDrift {
    let expected = of.shares();
    let rows: u64 = counts.iter().sum();
    let missing = counts.last().copied().unwrap_or_default();
    let found = drift(&expected, counts).filter(|_| rows > missing);
    pb::FeatureDrift {
        feature,
        values: rows - missing,
        missing_share: if rows == 0 { 0.0 } else { missing as f64 / rows as f64 },
        expected_missing_share: expected.last().copied().unwrap_or_default(),
        psi: found.map(|found| found.psi),
        reading: found.map_or(pb::DriftReading::Unspecified, |found| match found.reading {
            Reading::Stable => pb::DriftReading::Stable,
            Reading::Shifted => pb::DriftReading::Shifted,
            Reading::Drifted => pb::DriftReading::Drifted,
        }) as i32,
        unavailable: if found.is_some() {
            String::new()
        } else {
            "no row of the log has a value: does prediction_log keep this feature?".to_owned()
        },
    }
}
