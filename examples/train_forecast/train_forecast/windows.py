"""Windows of series: what the network sees, and what came next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train_forecast.series import Series

CONTEXT, HORIZON = 168, 24
"""Hours that the network sees, and hours that it forecasts."""
MIN_VALUES = 24
"""Values of the context that must be there."""


@dataclass(frozen=True)
class Windows:
    """`context` [rows, CONTEXT] and `target` [rows, HORIZON], NaN where a value is missing."""

    context: NDArray[np.float64]
    target: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.context)


def at(series: Series, origin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The context that ends before hour `origin`, and the hours from there on."""
    seen = series.values[max(0, origin - CONTEXT) : origin]
    return np.concatenate([np.full(CONTEXT - len(seen), np.nan), seen]), series.values[origin : origin + HORIZON]


def origins(series: Series, begin: int, end: int, step: int) -> list[int]:
    """Hours in `begin..end` at which enough is known before, and something after."""
    found = []
    for origin in range(max(begin, MIN_VALUES), end - HORIZON + 1, step):
        context, target = at(series, origin)
        if np.isfinite(context).sum() >= MIN_VALUES and np.isfinite(target).any():
            found.append(origin)
    return found


def cut(series: Sequence[Series], begin: float, end: float, step: int) -> Windows:
    """Windows of all series whose targets lie between two shares of each."""
    pairs = [at(s, origin) for s in series for origin in origins(s, s.cut(begin), s.cut(end), step)]
    contexts, targets = zip(*pairs, strict=True)
    return Windows(np.array(contexts), np.array(targets))


def spoil(context: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Takes values away as life does: single ones, and all before some hour."""
    spoilt = context.copy()
    rows, length = context.shape
    lost = rng.random((rows, 1)) * 0.2 * (rng.random((rows, 1)) < 0.3)
    spoilt[rng.random(context.shape) < lost] = np.nan
    begin = np.where(rng.random(rows) < 0.2, rng.integers(0, length - 2 * MIN_VALUES, rows), 0)
    spoilt[np.arange(length) < begin[:, None]] = np.nan
    few = np.isfinite(spoilt).sum(axis=1) < MIN_VALUES
    spoilt[few] = context[few]
    return spoilt
