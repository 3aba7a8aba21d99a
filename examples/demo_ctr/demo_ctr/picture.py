"""One picture: calibration, a sample of intervals with what happened, and coverage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from train_ctr.interval import ctr_interval
from train_ctr.plots import COLOURS, draw_calibration, tidy
from train_ctr.variance import UnitOutcomes

from demo_ctr.scenario import Scenario
from demo_ctr.verdict import Verdict

SAMPLE = 60
LEVEL = 0.9


def draw(path: Path, scenario: Scenario, verdict: Verdict) -> None:
    """Writes a PNG from the server's replies. Without telling units it shows no single ones."""
    telling = all(part.observed_ctr_tells for part in verdict.served.values())
    widths = (1, 1.5, 0.8) if telling else (1, 0.8)
    figure, panels = plt.subplots(
        1, len(widths), figsize=(4.8 * sum(widths), 5.2), width_ratios=widths, layout="constrained"
    )
    figure.suptitle(scenario.title, fontsize=14)
    draw_calibration(panels[0], {name: part.units for name, part in verdict.served.items()}, scenario.labels)
    panels[0].set_title("Predicted and observed CTR", fontsize=11)
    if telling:
        _intervals(panels[1], verdict.served["test"].units, scenario.labels["test"], scenario.seed)
    _coverage(panels[-1], scenario, verdict, telling)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _intervals(axes: Axes, units: UnitOutcomes, label: str, seed: int) -> None:
    count = min(SAMPLE, len(units.clicks))
    chosen = np.random.default_rng(seed).choice(len(units.clicks), count, replace=False)
    ctr, lower, upper = ctr_interval(units.logit[chosen], units.variance[chosen], LEVEL)
    order = np.argsort(ctr, kind="stable")
    observed = (units.clicks / units.impressions)[chosen][order]
    low, mid, high = (100 * values[order] for values in (lower, ctr, upper))
    inside = (100 * observed >= low) & (100 * observed <= high)
    place = np.arange(count)
    axes.vlines(place, low, high, color=COLOURS["test"], alpha=0.35, linewidth=4, label="90% interval")
    axes.plot(place, mid, "_", color=COLOURS["test"], markersize=6, label="predicted CTR")
    axes.plot(place[inside], 100 * observed[inside], "o", color="black", markersize=3.5, label="observed, inside")
    axes.plot(place[~inside], 100 * observed[~inside], "o", color="#c02020", markersize=4.5, label="observed, outside")
    axes.set(ylim=(0, None), xlabel=f"{count} units at random, sorted by prediction", ylabel="CTR, %")
    axes.set_title(f"Intervals and what happened: {label}", fontsize=11)
    axes.legend(frameon=False, loc="upper left")
    tidy(axes)
    axes.grid(visible=False, axis="x")


def _coverage(axes: Axes, scenario: Scenario, verdict: Verdict, with_raw: bool) -> None:
    """A bar a part for coverage with the binomial noise allowed for, and a pale one for the raw share."""
    for place, name in enumerate(scenario.labels):
        part = verdict.served[name].intervals
        bars = [(100 * part.predictive[LEVEL], 100 * part.standard_error, 1.0, "white", "noise allowed for")]
        if with_raw:
            bars.append((100 * part.raw_90, 0.0, 0.35, "black", "as observed"))
        for index, (value, error, alpha, ink, meaning) in enumerate(bars):
            x = place + 0.4 * (index - (len(bars) - 1) / 2)
            axes.bar(x, value, 0.37, yerr=error or None, capsize=3, color=COLOURS[name], alpha=alpha)
            axes.text(x, 3, f"{meaning}: {value:.1f}%", ha="center", va="bottom", color=ink, rotation=90)
    count = len(scenario.labels)
    axes.axhline(100 * LEVEL, color="0.35", linewidth=1, linestyle="--", label=f"promised: {LEVEL:.0%}")
    axes.set_xticks(range(count), [label.replace(" (", "\n(") for label in scenario.labels.values()])
    axes.set(ylim=(0, 112), xlim=(-0.6, count - 0.4), ylabel="units covered, %", yticks=range(0, 101, 20))
    axes.legend(frameon=False, loc="upper right")
    axes.set_title("Coverage of the intervals", fontsize=11)
    tidy(axes)
    axes.grid(visible=False, axis="x")
