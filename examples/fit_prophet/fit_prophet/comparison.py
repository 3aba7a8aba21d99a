"""The server's forecast beside Prophet's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-9
"""Largest difference of yhat, as a share of the series' greatest value. The two evaluate one formula in float64."""


@dataclass(frozen=True)
class Forecast:
    """In the series' units, each float64 [rows]."""

    yhat: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values are not inside the interval."""
        return (values < self.lower) | (values > self.upper)


@dataclass(frozen=True)
class Comparison:
    """Differences of yhat and of the interval's ends, largest; and over which values the two disagree."""

    scale: float
    yhat: float
    bounds: float
    mean_width: float
    engine_outside: int
    prophet_outside: int
    judged_differently: int
    rows: int

    @property
    def agrees(self) -> bool:
        return self.yhat <= TOLERANCE * self.scale

    def text(self) -> str:
        """What the demo prints."""
        verdict = "they agree" if self.agrees else "THEY DISAGREE"
        return (
            f"forecast: {verdict}. Largest difference {self.yhat:.1e} (allowed {TOLERANCE * self.scale:.1e})\n"
            f"ends of the interval: largest difference {self.bounds:.3g}, of a mean width of {self.mean_width:.3g}; "
            "Prophet simulates, the engine computes\n"
            f"outside the interval: {self.engine_outside} of {self.rows:,} values by the engine, "
            f"{self.prophet_outside} by Prophet, {self.judged_differently} judged differently"
        )


def compare(engine: Forecast, prophet: Forecast, values: NDArray[np.float64], scale: float) -> Comparison:
    """`values` are what happened, at the forecasts' dates; `scale` is the series' greatest absolute value."""
    ends = [np.abs(getattr(engine, end) - getattr(prophet, end)).max() for end in ("lower", "upper")]
    ours, theirs = engine.outside(values), prophet.outside(values)
    return Comparison(
        scale=scale,
        yhat=float(np.abs(engine.yhat - prophet.yhat).max()),
        bounds=float(max(ends)),
        mean_width=float((prophet.upper - prophet.lower).mean()),
        engine_outside=int(ours.sum()),
        prophet_outside=int(theirs.sum()),
        judged_differently=int((ours != theirs).sum()),
        rows=len(values),
    )
