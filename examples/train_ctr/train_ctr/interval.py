"""The serving convention: from `logit` and `logit_variance` to a CTR and its bounds, in float64.

The logit belongs to the mean CTR, the interval is centred on the median, hence the shift. One model
serves every level.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, ndtri

MAX_VARIANCE = 9.0


def clamp_variance(logit_variance: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(logit_variance, np.float64), 0, MAX_VARIANCE)


def median_logit(mean_logit: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log-odds whose logit-normal of this `variance` has (to second order) the mean CTR s(mean_logit)."""
    return mean_logit - 0.5 * variance * (1 - 2 * expit(mean_logit))


def ctr_interval(
    mean_logit: np.ndarray, logit_variance: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (ctr, lower, upper), lower <= ctr <= upper, for a `level` in (0, 1)."""
    z = np.asarray(mean_logit, np.float64)
    variance = clamp_variance(logit_variance)
    ctr = expit(z)
    centre = median_logit(z, variance)
    reach = ndtri((1 + level) / 2) * np.sqrt(variance)
    return ctr, np.minimum(ctr, expit(centre - reach)), np.maximum(ctr, expit(centre + reach))


def recover_logits(
    ctr: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Inverts `ctr_interval`: returns (logit, variance) from a reply's numbers.

    Uses the bound that the median's shift moves away from the CTR, which is never clamped to it: its
    distance is d = h V + q sqrt(V) with h = |1 - 2 ctr| / 2, a quadratic in sqrt(V).
    """
    z = logit(np.asarray(ctr, np.float64))
    distance = np.where(z <= 0, z - logit(lower), logit(upper) - z)
    half_shift = np.abs(1 - 2 * np.asarray(ctr)) / 2
    q = ndtri((1 + level) / 2)
    root = 2 * distance / (q + np.sqrt(q * q + 4 * half_shift * distance))
    return z, root**2
