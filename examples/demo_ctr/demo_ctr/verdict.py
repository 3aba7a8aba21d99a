"""Holds the replies against the same model run in process, and both against the observed clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from train_ctr.dataset import Part
from train_ctr.deepfm import Batch
from train_ctr.encoder import Encoder
from train_ctr.experiment import Intervals, intervals
from train_ctr.interval import recover_logits
from train_ctr.metrics import Quality, quality
from train_ctr.session import Session
from train_ctr.variance import UnitOutcomes, by_unit

from demo_ctr.client import Replies
from demo_ctr.scenario import Scenario

LOGIT_TOLERANCE = 1e-6
VARIANCE_RELATIVE_TOLERANCE = 1e-3
TELLING_CLICKS = 5


@dataclass(frozen=True)
class Figures:
    """One part, from one source of logits and variances."""

    quality: Quality
    intervals: Intervals
    units: UnitOutcomes

    @property
    def observed_ctr_tells(self) -> bool:
        """Whether a typical unit has clicks enough for its observed CTR to say something about the true one."""
        return bool(np.median(self.units.clicks) >= TELLING_CLICKS)


@dataclass(frozen=True)
class Verdict:
    """`served` and `local` are keyed by part."""

    served: Mapping[str, Figures]
    local: Mapping[str, Figures]
    logit_difference: float
    variance_relative_difference: float

    @property
    def agrees(self) -> bool:
        return (
            self.logit_difference <= LOGIT_TOLERANCE
            and self.variance_relative_difference <= VARIANCE_RELATIVE_TOLERANCE
        )


def judge(scenario: Scenario, replies: Replies) -> Verdict:
    """Replies are in the order of the scenario's parts, one after the other."""
    directory = scenario.models / scenario.model_name / str(replies.version)
    encoder, session = Encoder.from_directory(directory), Session(directory / "model.onnx")
    served_logit, served_variance = recover_logits(replies.ctr, replies.lower, replies.upper, replies.level)
    served, local, worst_logit, worst_variance, start = {}, {}, 0.0, 0.0, 0
    for name, part in scenario.parts.items():
        ids, dense = encoder.encode(part.inputs)
        logit, variance = (output.astype(np.float64) for output in session.run(ids, dense))
        rows = slice(start, start + len(part))
        start += len(part)
        worst_logit = max(worst_logit, float(np.abs(served_logit[rows] - logit).max()))
        worst_variance = max(worst_variance, float((np.abs(served_variance[rows] - variance) / variance).max()))
        batch = Batch(ids, dense, part.clicks, part.impressions)
        served[name] = _figures(part, batch, served_logit[rows], served_variance[rows], scenario.seed)
        local[name] = _figures(part, batch, logit, variance, scenario.seed)
    return Verdict(served, local, worst_logit, worst_variance)


def _figures(part: Part, batch: Batch, logit: np.ndarray, variance: np.ndarray, seed: int) -> Figures:
    units = by_unit(logit, variance, batch, part.unit)
    return Figures(quality(logit, part.clicks, part.impressions), intervals(units, part, seed), units)
