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
use aibuyer_features::{Lookup, store::StoreError, view::FeatureRow};
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
    Row { lookup: Lookup, age: Duration },
    Absent { key: String },
    NoKey,
    Failed(StoreError),
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
        let outcomes = outcomes(views, entity, &keys, terms).await;
        let found = Entity::new(entity, &fields, keys.of_context, outcomes, terms);
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

/// What is known of each key's entity.
async fn outcomes(views: &Views, entity: &StoredEntity, keys: &Keys<'_>, terms: Terms) -> Vec<Outcome> {
    let asked: Vec<&str> = keys.keys.iter().flatten().map(AsRef::as_ref).collect();
    let mut answers = views.get(entity.view, &asked, terms.deadline).await.into_iter();
    let now = SystemTime::now();
    let outcome = |key: &Option<_>| match key.as_ref().and_then(|key| Some((key, answers.next()?))) {
        None => Outcome::NoKey,
        Some((key, Ok(Lookup::Absent))) => Outcome::Absent { key: AsRef::<str>::as_ref(key).to_owned() },
        Some((_, Ok(lookup @ (Lookup::Present(_) | Lookup::Stale(_))))) => {
            let age = row(&lookup).map_or(Duration::ZERO, |row| row.age(now));
            Outcome::Row { lookup, age }
        }
        Some((_, Err(error))) => Outcome::Failed(error),
    };
    keys.keys.iter().map(outcome).collect()
}

fn row(lookup: &Lookup) -> Option<&FeatureRow> {
    match lookup {
        Lookup::Present(row) | Lookup::Stale(row) => Some(row),
        Lookup::Absent => None,
    }
}

fn names(fields: &[&StoredField]) -> String {
    fields.iter().map(|field| &*field.input).collect::<Vec<_>>().join(", ")
}

impl Outcome {
    /// The row, if it is young enough.
    fn usable(&self, limit: Option<Duration>) -> Option<&FeatureRow> {
        match self {
            Self::Row { lookup, age } if limit.is_none_or(|limit| *age <= limit) => row(lookup),
            _ => None,
        }
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
            Self::Row { lookup: Lookup::Stale(_), .. } => State::Stale,
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
    fn new(
        entity: &StoredEntity,
        fields: &[&StoredField],
        of_context: bool,
        outcomes: Vec<Outcome>,
        terms: Terms,
    ) -> Self {
        let limit = |field: &StoredField| [field.max_age, terms.max_age].into_iter().flatten().min();
        let columns = fields.iter().map(|field| {
            let limit = limit(field);
            let rows = outcomes.iter().map(|outcome| outcome.usable(limit).map(|row| &*row.values));
            Filled { input: Arc::clone(&field.input), limit, column: field.column(rows) }
        });
        let columns = columns.collect();
        // The strictest bound decides whether all of a row was used.
        let strictest = fields.iter().filter_map(|field| limit(field)).min();
        let state = |outcome: &Outcome| outcome.state(outcome.usable(strictest).is_none()).into();
        let report = pb::EntityFeatures {
            view: entity.name.to_owned(),
            entity_key: entity.key.clone(),
            statuses: outcomes.iter().map(state).collect(),
            ages_ms: outcomes.iter().map(Outcome::age_ms).collect(),
        };
        Self { view: entity.name, of_context, outcomes, columns, report }
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
