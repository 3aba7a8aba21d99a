"""How good a score is: AUC, log loss, normalised entropy, calibration error. All weigh by impressions.

`logit`, `clicks` and `impressions` are [units]; a unit stands for `impressions` yes/no outcomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

ECE_BINS = 15


@dataclass(frozen=True)
class Quality:
    """`ne` is log loss / entropy of the base rate; `relative_ece` is `ece` / base rate."""

    units: int
    impressions: int
    clicks: int
    auc: float
    log_loss: float
    ne: float
    ece: float
    relative_ece: float


@dataclass(frozen=True)
class CalibrationBins:
    """Per bin of equal impressions, in order of the score: [bins] each."""

    impressions: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray


def quality(logit: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> Quality:
    total, positive = float(impressions.sum()), float(clicks.sum())
    base = positive / total
    entropy = -(base * math.log(base) + (1 - base) * math.log1p(-base))
    loss = log_loss(logit, clicks, impressions)
    bins = calibration_bins(logit, clicks, impressions, ECE_BINS)
    ece = float((np.abs(bins.observed - bins.predicted) * bins.impressions).sum() / total)
    return Quality(
        len(logit), int(total), int(positive), auc(logit, clicks, impressions), loss, loss / entropy, ece, ece / base
    )


def log_loss(logit: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> float:
    """Mean negative log-likelihood of one impression, in nats."""
    nll = impressions * np.logaddexp(0, logit) - clicks * logit
    return float(nll.sum(dtype=np.float64) / impressions.sum(dtype=np.float64))


def auc(logit: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> float:
    """Probability that a clicked impression scores above an unclicked one, ties counting half."""
    _, tie = np.unique(logit, return_inverse=True)
    positive = np.bincount(tie, clicks)
    negative = np.bincount(tie, impressions - clicks)
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / (positive.sum() * negative.sum()))


def auc_standard_error(area: float, positives: int, negatives: int) -> float:
    """Hanley & McNeil, 1982, doi:10.1148/radiology.143.1.7063747."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(spread / (positives * negatives))


def calibration_bins(logit: np.ndarray, clicks: np.ndarray, impressions: np.ndarray, count: int) -> CalibrationBins:
    """Cuts the units, sorted by score, into `count` bins of about equally many impressions."""
    order = np.argsort(logit, kind="stable")
    middle = np.cumsum(impressions[order]) - impressions[order] / 2
    index = np.minimum((middle / impressions.sum() * count).astype(int), count - 1)
    size = np.bincount(index, impressions[order], count)
    filled = size > 0
    observed = np.bincount(index, clicks[order], count)[filled] / size[filled]
    predicted = np.bincount(index, (impressions * expit(logit))[order], count)[filled] / size[filled]
    return CalibrationBins(size[filled], observed, predicted)
