//! Stored features of a request: found by the keys that it carries, and encoded as if it had carried them.
//!
//! What the store does not give in time, does not have or has only too old counts as missing: the model's default stands
//! in, and the reply says so, or the candidate fails with the reason.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aibuyer_domain::ctr::{
    Cause, Column, Encoded,
    stored::{Keys, Stored, StoredColumn, StoredEntity, StoredField},
};
use aibuyer_features::{Answer, Lookup, store::StoreError, view::FeatureValue};
use aibuyer_proto::serving::v1::{self as pb, entity_features::Status as State};
use tonic::Status;

use crate::{
    features::Views,
    prediction_log::{Inputs, StoredRow, ViewAges},
    services::columns,
    status,
};

/// What may be used, and for how long it may be waited for.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) max_age: Option<Duration>,
    pub(super) deadline: Instant,
}

/// The stored features of one request.
#[derive(Default)]
pub(super) struct LookedUp {
    entities: Vec<Entity>,
}

/// One kind of entity of a request.
struct Entity {
    view: &'static str,
    of_context: bool,
    outcomes: Vec<Outcome>,
    columns: Vec<Filled>,
    report: pb::EntityFeatures,
}

/// What is known of one entity.
enum Outcome {
    Row { is_stale: bool, age: Duration },
    Absent { key: Box<str> },
    NoKey,
    Failed(Box<StoreError>),
}

/// A feature's values.
struct Filled {
    input: Arc<str>,
    limit: Option<Duration>,
    column: StoredColumn,
}

/// Looks up what the request does not carry of a model's stored features.
///
/// # Errors
/// When no key comes with the request, and when a feature that holds for all candidates cannot be had and has no default.
pub(super) async fn look_up(
    views: &Views,
    stored: &Stored,
    context: &[Column<'_>],
    columns: &[Column<'_>],
    candidates: usize,
    terms: Terms,
) -> Result<LookedUp, Status> {
    let mut looked_up = LookedUp::default();
    let carried = |name: &str| context.iter().chain(columns).any(|column| column.name == name);
    for entity in &stored.entities {
        let fields: Vec<&StoredField> = entity.fields.iter().filter(|field| !carried(&field.input)).collect();
        if fields.is_empty() {
            continue;
        }
        let Some(keys) = entity.keys(context, columns, candidates) else {
            if carried(&entity.key) {
                // The encoder says what is wrong with it.
                continue;
            }
            let reason = format!(
                "is required: {} of the view {} are looked up by it; send it, or those features",
                names(&fields),
                entity.name
            );
            return Err(status::invalid_field(&entity.key, reason));
        };
        let mut asked: Vec<&str> = Vec::with_capacity(keys.keys.len());
        asked.extend(keys.keys.iter().flatten().map(AsRef::<str>::as_ref));
        let take = |answers: &[Answer<'_>]| Entity::new(entity, &fields, &keys, answers, terms);
        let found = views.read(entity.view, &asked, terms.deadline, take).await;
        if keys.of_context
            && let Some(field) = fields
                .iter()
                .zip(&found.columns)
                .find_map(|(field, filled)| (field.needs_value && !filled.column.missing.is_empty()).then_some(filled))
        {
            let why = found.outcomes[0].why(field, entity.name);
            return Err(match &found.outcomes[0] {
                Outcome::Failed(_) => status::dependency(&why),
                _ => status::invalid_field(&format!("context[{:?}]", entity.key), why),
            });
        }
        looked_up.entities.push(found);
    }
    Ok(looked_up)
}

fn values<'a>(answer: &Answer<'a>) -> Option<&'a [FeatureValue]> {
    match answer {
        Ok(Lookup::Present(row) | Lookup::Stale(row)) => Some(&row.values),
        Ok(Lookup::Absent) | Err(_) => None,
    }
}

fn names(fields: &[&StoredField]) -> String {
    fields.iter().map(|field| &*field.input).collect::<Vec<_>>().join(", ")
}

impl Outcome {
    fn new(key: &str, answer: &Answer<'_>, now: SystemTime) -> Self {
        match answer {
            Ok(Lookup::Present(row)) => Self::Row { is_stale: false, age: row.age(now) },
            Ok(Lookup::Stale(row)) => Self::Row { is_stale: true, age: row.age(now) },
            Ok(Lookup::Absent) => Self::Absent { key: key.into() },
            Err(error) => Self::Failed(Box::new((*error).clone())),
        }
    }

    /// Whether there is a row that is young enough.
    fn is_usable(&self, limit: Option<Duration>) -> bool {
        matches!(self, Self::Row { age, .. } if limit.is_none_or(|limit| *age <= limit))
    }

    /// Why a feature has no value, for a person to read.
    fn why(&self, filled: &Filled, view: &str) -> String {
        let input = &filled.input;
        let reason = match self {
            Self::NoKey => "the request names no entity".to_owned(),
            Self::Absent { key } => format!("the view {view} has no {key:?}"),
            Self::Failed(error) => error.to_string(),
            Self::Row { age, .. } => match filled.limit {
                Some(limit) if *age > limit => format!("its row is {age:.1?} old, and at most {limit:?} is allowed"),
                _ => format!("its row in the view {view} has no value"),
            },
        };
        format!("{input} cannot be looked up, and the model has no default for it: {reason}")
    }

    fn state(&self, defaulted: bool) -> State {
        match self {
            Self::NoKey | Self::Absent { .. } => State::Absent,
            Self::Failed(_) => State::Defaulted,
            Self::Row { .. } if defaulted => State::Defaulted,
            Self::Row { is_stale: true, .. } => State::Stale,
            Self::Row { .. } => State::Present,
        }
    }

    fn age_ms(&self) -> u32 {
        match self {
            Self::Row { age, .. } => u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
            _ => 0,
        }
    }
}

impl Entity {
    /// Of the keys' answers in their order.
    fn new(
        entity: &StoredEntity,
        fields: &[&StoredField],
        keys: &Keys<'_>,
        answers: &[Answer<'_>],
        terms: Terms,
    ) -> Self {
        let (now, mut answers) = (SystemTime::now(), answers.iter());
        let (mut outcomes, mut rows) = (Vec::with_capacity(keys.keys.len()), Vec::with_capacity(keys.keys.len()));
        for key in &keys.keys {
            let answer = key.as_ref().and_then(|key| Some((key, answers.next()?)));
            outcomes.push(answer.map_or(Outcome::NoKey, |(key, answer)| Outcome::new(key, answer, now)));
            rows.push(answer.and_then(|(_, answer)| values(answer)));
        }
        let limit = |field: &StoredField| [field.max_age, terms.max_age].into_iter().flatten().min();
        let columns = fields.iter().map(|field| {
            let limit = limit(field);
            let is_usable = |outcome: &Outcome| outcome.is_usable(limit);
            let column = match limit.is_none() || outcomes.iter().all(is_usable) {
                true => field.column(&rows),
                false => {
                    let young = |(outcome, row): (&Outcome, &Option<_>)| row.filter(|_| is_usable(outcome));
                    field.column(&outcomes.iter().zip(&rows).map(young).collect::<Vec<_>>())
                }
            };
            Filled { input: Arc::clone(&field.input), limit, column }
        });
        let columns = columns.collect();
        // The strictest bound decides whether all of a row was used.
        let strictest = fields.iter().filter_map(|field| limit(field)).min();
        let state = |outcome: &Outcome| outcome.state(!outcome.is_usable(strictest)).into();
        let report = pb::EntityFeatures {
            view: entity.name.to_owned(),
            entity_key: entity.key.clone(),
            statuses: outcomes.iter().map(state).collect(),
            ages_ms: outcomes.iter().map(Outcome::age_ms).collect(),
        };
        Self { view: entity.name, of_context: keys.of_context, outcomes, columns, report }
    }
}

impl LookedUp {
    /// Adds the features to a request's own columns.
    pub(super) fn extend<'a>(&'a self, context: &mut Vec<Column<'a>>, columns: &mut Vec<Column<'a>>) {
        for entity in &self.entities {
            let target = if entity.of_context { &mut *context } else { &mut *columns };
            target.extend(entity.columns.iter().map(|filled| filled.column.column(&filled.input)));
        }
    }

    /// Says of candidates that lack a stored feature why; an error if that leaves none because the store does not answer.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub(super) fn explain(&self, encoded: &mut Encoded) -> Result<(), Status> {
        let mut failure = None;
        for rejected in &mut encoded.rejected {
            let found = self.entities.iter().filter(|entity| !entity.of_context).find_map(|entity| {
                let filled = entity.columns.iter().find(|filled| *filled.input == *rejected.field)?;
                let gap = u32::try_from(rejected.candidate)
                    .is_ok_and(|row| filled.column.missing.binary_search(&row).is_ok());
                gap.then(|| (&entity.outcomes[rejected.candidate], filled, &entity.report.view))
            });
            let Some((outcome, filled, view)) = found else { continue };
            rejected.cause = Cause::Store;
            rejected.reason = outcome.why(filled, view);
            if matches!(outcome, Outcome::Failed(_)) {
                failure.get_or_insert_with(|| rejected.reason.clone());
            }
        }
        match failure {
            Some(reason) if encoded.rows.len == 0 => Err(status::dependency(&reason)),
            _ => Ok(()),
        }
    }

    /// Adds the features to what is logged of the request's own columns.
    pub(super) fn log(&self, inputs: &mut Inputs) {
        for entity in &self.entities {
            for filled in &entity.columns {
                inputs.add(entity.of_context, columns::owned(filled.column.column(&filled.input)));
            }
        }
    }

    /// For the prediction log: how old what was used is, and where defaults stood in.
    pub(super) fn ages(&self) -> Vec<ViewAges> {
        let row = |(state, age): (State, &u32)| StoredRow {
            age_ms: matches!(state, State::Present | State::Stale).then_some(*age),
            defaults: matches!(state, State::Absent | State::Defaulted),
        };
        let ages = |entity: &Entity| ViewAges {
            view: entity.view,
            rows: entity.report.statuses().zip(&entity.report.ages_ms).map(row).collect(),
        };
        self.entities.iter().map(ages).collect()
    }

    /// For the reply.
    pub(super) fn reports(self) -> Vec<pb::EntityFeatures> {
        self.entities.into_iter().map(|entity| entity.report).collect()
    }
}
