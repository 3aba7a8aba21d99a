//! One request on its way into the log, and the rows that come of it.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use aibuyer_domain::{
    ctr::{Column, Estimate, FeatureSpec, FieldSpec, Level, LogPolicy, StringSlice, Values, estimate, text_digest},
    model::ServableId,
};
use aibuyer_features::sink::{PredictionRow, Stages};
use aibuyer_loader::stages::Outputs;
use aibuyer_proto::serving::v1 as pb;

use crate::services::columns;

/// Inputs that have columns of their own in the log.
const USER: &str = "user_id";
const CAMPAIGN: &str = "campaign_id";

/// What was predicted: moved in from the request and the run, so that a handler copies next to nothing.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// What answered.
    pub model: ServableId,
    /// Its features.
    pub spec: Arc<FeatureSpec>,
    /// Names the request.
    pub request_id: String,
    /// When it was answered.
    pub at: SystemTime,
    /// Level of its intervals.
    pub level: Level,
    /// The model's outputs for the candidates that were not rejected.
    pub outputs: Outputs,
    /// The candidates that were, ascending.
    pub rejected: Vec<usize>,
    /// Columns that the log may need.
    pub inputs: Inputs,
    /// Stored features, one entry a feature view.
    pub stored: Vec<ViewAges>,
    /// Where the time went.
    pub stages: Stages,
    /// Rows of the batch it was scored in.
    pub batch_rows: u32,
}

/// Columns of a request that the log may need.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    context: Vec<pb::Column>,
    candidates: Vec<pb::Column>,
}

impl Inputs {
    /// Of a request's columns all, or only those that name its account and campaign.
    #[must_use]
    pub fn new(mut context: Vec<pb::Column>, mut candidates: Vec<pb::Column>, payload: bool) -> Self {
        if !payload {
            for columns in [&mut context, &mut candidates] {
                columns.retain(|column| column.name == USER || column.name == CAMPAIGN);
            }
        }
        Self { context, candidates }
    }

    /// Adds a stored feature, as if the request had carried it.
    pub(crate) fn add(&mut self, of_context: bool, column: pb::Column) {
        let columns = if of_context { &mut self.context } else { &mut self.candidates };
        columns.push(column);
    }
}

/// How the features of a view were had.
#[derive(Debug, Clone)]
pub struct ViewAges {
    /// The view.
    pub view: &'static str,
    /// One entry for all candidates, or one for each.
    pub rows: Vec<StoredRow>,
}

/// How the features of one entity were had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRow {
    /// Their age in milliseconds, where a stored row was used.
    pub age_ms: Option<u32>,
    /// Whether defaults stood in for any of them.
    pub defaults: bool,
}

impl LoggedRequest {
    /// Rows that come of it.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.outputs.logits.len()
    }

    /// Gives each row, or `None` for an output that is not a finite number.
    pub(super) fn each(&self, payload: bool, mut take: impl FnMut(Option<&PredictionRow>)) {
        let inputs = self.resolved();
        let version = self.model.version.to_string();
        let at_ms = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        #[allow(clippy::cast_possible_truncation)] // a level of some digits
        let level = self.outputs.variances.is_some().then(|| self.level.get() as f32);
        let (mut numbers, mut texts, mut ages) = (Vec::new(), Vec::new(), Vec::new());
        let mut rejected = self.rejected.iter().copied().peekable();
        let mut candidate = 0;
        for (row, logit) in self.outputs.logits.iter().enumerate() {
            while rejected.next_if_eq(&candidate).is_some() {
                candidate += 1;
            }
            let variance = self.outputs.variances.as_ref().map(|v| v[row]);
            let Some(Estimate { ctr, bounds }) = estimate(*logit, variance, self.level) else {
                candidate += 1;
                take(None);
                continue;
            };
            let (mut user, mut campaign) = (Cow::Borrowed(""), Cow::Borrowed(""));
            numbers.clear();
            texts.clear();
            ages.clear();
            for input in &inputs {
                let Some(value) = input.value(candidate) else { continue };
                match input.name {
                    USER => user = input.id(&value),
                    CAMPAIGN => campaign = input.id(&value),
                    _ => {}
                }
                match (input.policy, value) {
                    _ if !payload => {}
                    (LogPolicy::Keep, Value::Number(number)) => numbers.push((input.name, number)),
                    (LogPolicy::Keep, value) => texts.push((input.name, value.text())),
                    (LogPolicy::Hash, value) => texts.push((input.name, value.hashed())),
                    (LogPolicy::Drop, _) => {}
                }
            }
            let mut feature_fallback = false;
            for view in &self.stored {
                let Some(stored) = (if view.rows.len() == 1 { view.rows.first() } else { view.rows.get(candidate) })
                else {
                    continue;
                };
                feature_fallback |= stored.defaults;
                ages.extend(stored.age_ms.map(|age| (view.view, age)));
            }
            #[allow(clippy::cast_possible_truncation)] // the table's precision is enough for a rate
            take(Some(&PredictionRow {
                at_ms: i64::try_from(at_ms).unwrap_or(i64::MAX),
                request_id: &self.request_id,
                candidate: u32::try_from(candidate).unwrap_or(u32::MAX),
                user_id: &user,
                campaign_id: &campaign,
                model: self.model.name.as_str(),
                model_version: &version,
                score: ctr as f32,
                bounds: bounds.map(|(lower, upper)| (lower as f32, upper as f32)),
                level,
                numbers: &numbers,
                texts: &texts,
                feature_ages_ms: &ages,
                feature_fallback,
                stages: self.stages,
                batch_rows: self.batch_rows,
            }));
            candidate += 1;
        }
    }

    /// The columns with what the spec says of them.
    fn resolved(&self) -> Vec<Input<'_>> {
        // Bad columns have failed the request before.
        let columns = |group, columns| columns::borrow(group, columns).unwrap_or_default();
        let context = columns("context", &self.inputs.context).into_iter().map(|c| Input::new(&self.spec, c, true));
        let candidates = columns("candidates", &self.inputs.candidates);
        context.chain(candidates.into_iter().map(|c| Input::new(&self.spec, c, false))).collect()
    }
}

/// A column of a request.
struct Input<'a> {
    name: &'a str,
    values: Values<'a>,
    /// Whether its one row is that of every candidate.
    shared: bool,
    numeric: bool,
    /// What the spec says of logging it.
    asked: Option<LogPolicy>,
    policy: LogPolicy,
    /// Empty where no row is missing.
    missing: Vec<bool>,
    /// Where each list starts.
    starts: Vec<usize>,
}

/// A value that is there.
enum Value<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    List(StringSlice<'a>),
}

impl<'a> Input<'a> {
    fn new(spec: &FeatureSpec, column: Column<'a>, shared: bool) -> Self {
        let Column { name, values, missing: rows } = column;
        let field = spec.fields.iter().find(|field| field.input() == name);
        let numeric = field.map_or(matches!(values, Values::Doubles(_)), FieldSpec::is_numeric);
        let asked = field.and_then(FieldSpec::log);
        let mut missing = vec![false; if rows.is_empty() { 0 } else { values.rows() }];
        rows.iter().for_each(|row| missing[*row as usize] = true);
        let mut starts = Vec::new();
        if let Values::StringLists { lengths, .. } = values {
            let mut start = 0;
            for length in lengths {
                starts.push(start);
                start += *length as usize;
            }
        }
        let policy = asked.unwrap_or(if numeric { LogPolicy::Keep } else { LogPolicy::Hash });
        Self { name, values, shared, numeric, asked, policy, missing, starts }
    }

    #[allow(clippy::cast_precision_loss)] // as the encoder takes it
    fn value(&self, candidate: usize) -> Option<Value<'a>> {
        let row = if self.shared { 0 } else { candidate };
        if self.missing.get(row).copied().unwrap_or(false) {
            return None;
        }
        Some(match self.values {
            Values::Strings(v) if v.at(row).is_empty() => return None,
            Values::Strings(v) => Value::Text(Cow::Borrowed(v.at(row))),
            Values::Int64s(v) if self.numeric => Value::Number(v[row] as f64),
            Values::Int64s(v) => Value::Text(Cow::Owned(v[row].to_string())),
            Values::Doubles(v) => Value::Number(v[row]),
            Values::Bools(v) if self.numeric => Value::Number(f64::from(u8::from(v[row]))),
            Values::Bools(v) => Value::Text(Cow::Borrowed(if v[row] { "true" } else { "false" })),
            Values::StringLists { lengths, .. } if lengths[row] == 0 => return None,
            Values::StringLists { values, lengths } => {
                let start = self.starts[row];
                Value::List(values.range(start..start + lengths[row] as usize))
            }
        })
    }

    /// The value of an input with a column of its own: as it is, unless the spec says otherwise.
    fn id(&self, value: &Value<'a>) -> Cow<'a, str> {
        match self.asked {
            None | Some(LogPolicy::Keep) => value.text(),
            Some(LogPolicy::Hash) => value.hashed(),
            Some(LogPolicy::Drop) => Cow::Borrowed(""),
        }
    }
}

impl<'a> Value<'a> {
    fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text.clone(),
            Self::List(values) => Cow::Owned(serde_json::json!(values.iter().collect::<Vec<_>>()).to_string()),
        }
    }

    /// Of a list, that of each value.
    fn hashed(&self) -> Cow<'a, str> {
        Cow::Owned(match self {
            Self::List(values) => serde_json::json!(values.iter().map(text_digest).collect::<Vec<_>>()).to_string(),
            value => text_digest(&value.text()),
        })
    }
}
