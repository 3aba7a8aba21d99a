//! From scores to replies: the scored candidates in order, with the rejected ones in their places.

use aibuyer_domain::ctr::{Cause, Estimate, Level, Rejected, estimate};
use aibuyer_loader::CtrScores;
use aibuyer_proto::serving::v1::{self as pb, candidate_error::Kind};

/// One message a candidate, and how many outputs are not finite.
pub(super) fn by_candidate(
    candidates: usize,
    rejected: Vec<Rejected>,
    scores: &CtrScores,
    level: Level,
) -> (Vec<pb::CtrPrediction>, usize) {
    let mut not_finite = 0;
    let each = outcomes(candidates, rejected, scores, level).map(|outcome| match outcome {
        Ok(Estimate { ctr, bounds }) => pb::CtrPrediction {
            ctr: Some(ctr),
            ctr_lower: bounds.map(|(lower, _)| lower),
            ctr_upper: bounds.map(|(_, upper)| upper),
            error: None,
        },
        Err(error) => {
            not_finite += usize::from(error.kind() == Kind::ModelOutput);
            pb::CtrPrediction { ctr: None, ctr_lower: None, ctr_upper: None, error: Some(error) }
        }
    });
    (each.collect(), not_finite)
}

/// A column for each number.
pub(super) fn by_column(
    candidates: usize,
    rejected: Vec<Rejected>,
    scores: &CtrScores,
    level: Level,
) -> pb::PredictCtrEncodedResponse {
    let mut reply = pb::PredictCtrEncodedResponse { ctr: Vec::with_capacity(candidates), ..Default::default() };
    let bounded = scores.outputs.variances.is_some();
    if bounded {
        reply.ctr_lower.reserve(candidates);
        reply.ctr_upper.reserve(candidates);
    }
    for (candidate, outcome) in (0u32..).zip(outcomes(candidates, rejected, scores, level)) {
        let Estimate { ctr, bounds } = outcome.unwrap_or_else(|error| {
            reply.errors.push(pb::IndexedCandidateError { candidate, error: Some(error) });
            Estimate { ctr: f64::NAN, bounds: None }
        });
        reply.ctr.push(ctr);
        if bounded {
            let (lower, upper) = bounds.unwrap_or((f64::NAN, f64::NAN));
            reply.ctr_lower.push(lower);
            reply.ctr_upper.push(upper);
        }
    }
    reply
}

/// How many outputs of a reply are not finite.
pub(super) fn not_finite(reply: &pb::PredictCtrEncodedResponse) -> usize {
    let errors = reply.errors.iter().filter_map(|e| e.error.as_ref());
    errors.filter(|e| e.kind() == Kind::ModelOutput).count()
}

fn outcomes(
    candidates: usize,
    rejected: Vec<Rejected>,
    scores: &CtrScores,
    level: Level,
) -> impl Iterator<Item = Result<Estimate, pb::CandidateError>> {
    let outputs = &scores.outputs;
    let mut rejected = rejected.into_iter().peekable();
    let mut row = 0;
    (0..candidates).map(move |candidate| {
        if let Some(rejected) = rejected.next_if(|r| r.candidate == candidate) {
            let Rejected { cause, field, reason, .. } = rejected;
            let kind = match cause {
                Cause::Request => Kind::InvalidFeature,
                Cause::Store => Kind::StoredFeature,
            };
            return Err(pb::CandidateError { kind: kind.into(), field, reason });
        }
        let logit = outputs.logits[row];
        let variance = outputs.variances.as_ref().map(|v| v[row]);
        row += 1;
        estimate(logit, variance, level).ok_or_else(|| pb::CandidateError {
            kind: Kind::ModelOutput.into(),
            field: if logit.is_finite() { "logit_variance" } else { "logit" }.to_owned(),
            reason: "the model's output is not a finite number: tell the model's owner".to_owned(),
        })
    })
}
