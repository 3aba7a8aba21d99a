"""How good quantile forecasts are. Hours without a value count nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pinball(target: np.ndarray, quantiles: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
    """Mean pinball loss of each window, in the series' units.

    `target` [windows, hours], `quantiles` [windows, hours, probabilities]. Twice the loss at 0.5 is the absolute error.
    """
    tau = np.array(probabilities)
    error = target[:, :, None] - np.sort(quantiles, axis=2)
    return np.nanmean(np.maximum(tau * error, (tau - 1) * error), axis=(1, 2))


def absolute_error(target: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Mean absolute error of each window."""
    return np.nanmean(np.abs(target - point), axis=1)


def covered(target: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Share of each window's values inside the interval, ends included."""
    inside = ((target >= lower) & (target <= upper)).astype(float)
    return np.nanmean(np.where(np.isfinite(target), inside, np.nan), axis=1)


def naive_error(history: np.ndarray, season: int) -> float:
    """Mean absolute error of the seasonal naive forecast over a history: the denominator of MASE
    (Hyndman and Koehler, 2006)."""
    return float(np.nanmean(np.abs(history[season:] - history[:-season])))
