"""How far a unit's true CTR may lie from the predicted one: variance on the log-odds scale.

`logit_variance = sum over fields of the row's variance + tau2`, where a row's variance is
`a / (f + lambda)` and f is the Fisher information that training data gives its first-order weight.
Ids seen often are known well, unseen ones badly; tau2 is the scatter that features do not explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from train_ctr.deepfm import Batch
from train_ctr.interval import clamp_variance, median_logit
from train_ctr.layout import TableLayout

QUADRATURE_POINTS = 15
NEWTON_STEPS = 5
# Keeps the prior a density when a candidate's variance underflows.
SMALLEST_VARIANCE = 1e-8
# Weak prior on the logarithms of a, lambda, tau2 and of each own variance: factors of e^2 either way. It
# decides only what held-out units cannot tell, as when there are few clicks.
PRIOR_CENTRE = (1.0, 3.0, -3.0)
PRIOR_OOV_CENTRE = -2.0
PRIOR_SPREAD = 2.0
METHOD = "logit-normal-binomial marginal likelihood on held-out units, weak log-normal prior"


@dataclass(frozen=True)
class IdVariance:
    """Fitted numbers. `oov` overrides the variance of a field's unknown and missing rows."""

    a: float
    lam: float
    tau2: float
    oov: dict[str, float]

    def row_variance(self, layout: TableLayout, information: np.ndarray) -> NDArray[np.float64]:
        """Variance of each table row, [table_rows]. Padding of multi-valued fields has none."""
        rows = self.a / (information + self.lam)
        for name, variance in self.oov.items():
            field = layout.field(name)
            # An id that is not given is known no better than one that was never seen.
            rows[[field.missing_row, field.unknown_row]] = variance
        rows[[field.missing_row for field in layout.fields if field.is_multi]] = 0
        return rows

    def logit_variance(
        self, layout: TableLayout, information: np.ndarray, ids: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Variance of each row of `ids`, [batch]. A mean of c values has sum / c^2."""
        slots = self.row_variance(layout, information)[ids]
        pooled = (slots @ layout.membership.T) * layout.inverse_counts(ids) ** 2
        return pooled.sum(1) + self.tau2


@dataclass(frozen=True)
class UnitOutcomes:
    """What a unit's rows say together: [units] each."""

    logit: np.ndarray
    variance: np.ndarray
    clicks: np.ndarray
    impressions: np.ndarray


def row_information(layout: TableLayout, train: Batch, logit: np.ndarray) -> NDArray[np.float64]:
    """Fisher information of each row's first-order weight: sum of n p (1 - p), [table_rows]."""
    p = expit(logit)
    weight = train.impressions * p * (1 - p)
    return np.bincount(train.ids.ravel(), np.repeat(weight, layout.slots), layout.table_rows)


def by_unit(logit: np.ndarray, variance: np.ndarray, rows: Batch, unit: NDArray[np.int64]) -> UnitOutcomes:
    """Sums rows into units (impression-weighted means of CTR and variance); `unit` is [rows], from 0."""
    impressions = np.bincount(unit, rows.impressions)
    mean_ctr = np.bincount(unit, rows.impressions * expit(logit)) / impressions
    mean_variance = np.bincount(unit, rows.impressions * variance) / impressions
    return UnitOutcomes(
        np.log(mean_ctr) - np.log1p(-mean_ctr), mean_variance, np.bincount(unit, rows.clicks), impressions
    )


def fit(
    layout: TableLayout,
    information: np.ndarray,
    rows: Batch,
    logit: np.ndarray,
    unit: NDArray[np.int64],
    oov_fields: Sequence[str],
) -> IdVariance:
    """Maximises the likelihood of held-out units' clicks, times the weak prior.

    The units must include some with ids never seen in training where `oov_fields` are given, else the
    intervals of new campaigns come out too narrow.
    """

    def candidate(log_numbers: np.ndarray) -> IdVariance:
        a, lam, tau2, *oov = (float(x) for x in np.exp(log_numbers))
        return IdVariance(a, lam, tau2, dict(zip(oov_fields, oov, strict=True)))

    centre = np.array([*PRIOR_CENTRE, *[PRIOR_OOV_CENTRE] * len(oov_fields)])

    def loss(log_numbers: np.ndarray) -> float:
        logit_variance = candidate(log_numbers).logit_variance(layout, information, rows.ids)
        surprise = 0.5 * (((log_numbers - centre) / PRIOR_SPREAD) ** 2).sum()
        return negative_log_likelihood(by_unit(logit, logit_variance, rows, unit)) + float(surprise)

    options = {"maxfev": 800, "xatol": 1e-3, "fatol": 1e-3}
    found = minimize(loss, centre, method="Nelder-Mead", options=options)
    return candidate(found.x)


def negative_log_likelihood(units: UnitOutcomes) -> float:
    """Of clicks ~ Binomial(n, s(x)), x normal around the median log-odds.

    Adaptive Gauss-Hermite quadrature (Liu & Pierce, 1994, doi:10.1093/biomet/81.3.624): with thousands of
    impressions the likelihood is a narrow peak that nodes spread over the prior would miss. The binomial
    coefficient is left out: it does not depend on the variance.
    """
    clicks, impressions = units.clicks, units.impressions
    variance = np.maximum(clamp_variance(units.variance), SMALLEST_VARIANCE)
    median = median_logit(units.logit, variance)
    mode, width = _posterior_peak(clicks, impressions, median, variance)

    nodes, weights = np.polynomial.hermite.hermgauss(QUADRATURE_POINTS)
    x = mode[:, None] + np.sqrt(2) * width[:, None] * nodes
    log_prior = -((x - median[:, None]) ** 2) / (2 * variance[:, None]) - 0.5 * np.log(variance[:, None])
    log_binomial = clicks[:, None] * x - impressions[:, None] * np.logaddexp(0, x)
    log_terms = log_prior + log_binomial + nodes**2 + np.log(weights)
    # sqrt(2) of the change of variable over sqrt(2 pi) of the normal density leaves 1 / sqrt(pi).
    return -float((logsumexp(log_terms, axis=1) + np.log(width) - 0.5 * np.log(np.pi)).sum())


def _posterior_peak(
    clicks: np.ndarray, impressions: np.ndarray, median: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where prior times likelihood peaks, and its width there: Newton's method on a log-concave function."""
    observed = np.log((clicks + 0.5) / (impressions - clicks + 0.5))
    information = impressions * expit(observed) * expit(-observed)
    x = (median / variance + observed * information) / (1 / variance + information)
    for _ in range(NEWTON_STEPS):
        p = expit(x)
        curvature = impressions * p * (1 - p) + 1 / variance
        x = x + (clicks - impressions * p - (x - median) / variance) / curvature
    return x, 1 / np.sqrt(impressions * expit(x) * expit(-x) + 1 / variance)
