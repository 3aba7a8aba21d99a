"""Do the intervals contain what happened? Observed clicks carry binomial noise, so two questions.

Predictive coverage: is the click count in the central part of interval *plus* binomial noise? A good
model gets the nominal level. Raw share: is clicks / impressions inside the bounds themselves? It is
below the level even for a perfect model, because of that noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, expit, ndtri

from train_ctr.interval import clamp_variance, ctr_interval, median_logit
from train_ctr.variance import UnitOutcomes

LEVELS = (0.5, 0.8, 0.9, 0.95)
QUANTILES = 200
BOOTSTRAP_DRAWS = 500


def predictive_steps(units: UnitOutcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(clicks < observed) and P(clicks <= observed) of each unit's predictive distribution, [units]."""
    normal = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    variance = clamp_variance(units.variance)
    median = median_logit(units.logit, variance)
    below, upto = np.empty(len(median)), np.empty(len(median))
    for i, (centre, spread) in enumerate(zip(median, np.sqrt(variance), strict=True)):
        rates = expit(centre + spread * normal)
        upto[i] = bdtr(units.clicks[i], int(units.impressions[i]), rates).mean()
        below[i] = bdtr(units.clicks[i] - 1, int(units.impressions[i]), rates).mean() if units.clicks[i] else 0.0
    return below, upto


def predictive_coverage(steps: tuple[np.ndarray, np.ndarray], level: float) -> NDArray[np.float64]:
    """Share of each unit's probability step inside the central `level`, [units] in 0..1.

    The non-randomised PIT of Czado, Gneiting & Held, 2009, doi:10.1111/j.1541-0420.2009.01191.x: a
    count's step may straddle the edge, so it counts in part.
    """
    below, upto = steps
    tail = (1 - level) / 2
    overlap = np.clip(np.minimum(upto, 1 - tail) - np.maximum(below, tail), 0, None)
    return overlap / np.maximum(upto - below, 1e-300)


def raw_share(units: UnitOutcomes, level: float) -> float:
    """Share of units whose observed clicks / impressions lies within the bounds."""
    _, lower, upper = ctr_interval(units.logit, units.variance, level)
    observed = units.clicks / units.impressions
    return float(((observed >= lower) & (observed <= upper)).mean())


def cluster_standard_error(values: np.ndarray, cluster: np.ndarray, seed: int) -> float:
    """Bootstrap standard error of the mean when units of one cluster share their error."""
    _, index = np.unique(cluster, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), BOOTSTRAP_DRAWS)
    return float(np.std((draws @ sums) / (draws @ sizes)))
