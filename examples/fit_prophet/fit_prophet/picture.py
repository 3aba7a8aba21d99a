"""One picture: the engine's forecast above Prophet's, both with their intervals and what lies outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from fit_prophet.comparison import Comparison, Forecast
from fit_prophet.engine import Answers
from fit_prophet.series import Series

LINE, OUTSIDE = "#1f5fa8", "#c02020"


def draw(path: Path, held_out: Series, engine: Answers, prophet: Forecast, found: Comparison, width: float) -> None:
    """Writes a PNG of the held-out rows."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(13, 8.5), sharex=True, sharey=True, layout="constrained")
    figure.suptitle(f"{held_out.name}: values that the fit has not seen", fontsize=14)
    _panel(above, held_out, engine.forecast, width)
    begins = np.array(engine.alerts, dtype=int)
    above.plot(
        held_out.dates[begins],
        held_out.values[begins],
        "v",
        color="black",
        markersize=6,
        fillstyle="none",
        label=f"an event begins ({len(begins)})",
    )
    above.set_title(f"The engine, version {engine.version}, {engine.method} interval", fontsize=11)
    _panel(below, held_out, prophet, width)
    below.set_title(f"Prophet in Python; largest difference of the forecasts {found.yhat:.1e}", fontsize=11)
    for axes in (above, below):
        axes.legend(frameon=False, loc="upper left", ncols=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, series: Series, forecast: Forecast, width: float) -> None:
    outside = forecast.outside(series.values)
    axes.fill_between(
        series.dates, forecast.lower, forecast.upper, color=LINE, alpha=0.2, linewidth=0, label=f"{width:.0%} interval"
    )
    axes.plot(series.dates, forecast.yhat, color=LINE, linewidth=1.2, label="forecast")
    axes.plot(series.dates[~outside], series.values[~outside], ".", color="0.25", markersize=3)
    axes.plot(
        series.dates[outside],
        series.values[outside],
        ".",
        color=OUTSIDE,
        markersize=6,
        label=f"outside ({int(outside.sum())})",
    )
    low, high = axes.get_ylim()
    # Room for the legend.
    axes.set_ylim(low, high + 0.12 * (high - low))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
