"""Two pictures: is the predicted CTR right on average, and do the intervals hold what they promise?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train_ctr.coverage import LEVELS
from train_ctr.experiment import Experiment
from train_ctr.metrics import calibration_bins
from train_ctr.variance import UnitOutcomes

MAX_BINS = 12
CLICKS_PER_BIN = 25
COLOURS = {"test": "#1f5fa8", "cold_test": "#d1601b"}
LABELS = {"test": "known tests (warm)", "cold_test": "new tests (cold)"}


def calibration(path: Path, experiment: Experiment) -> None:
    """Predicted against observed CTR in bins of equal impressions."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    draw_calibration(axes, {name: part.units for name, part in experiment.evaluations.items()}, LABELS)
    axes.set_title("Predicted and observed CTR of held-out creatives")
    _save(figure, path)


def draw_calibration(axes: Axes, parts: Mapping[str, UnitOutcomes], labels: Mapping[str, str]) -> None:
    """`parts` and `labels` are keyed alike: `test`, `cold_test`."""
    top = 0.0
    for name, units in parts.items():
        count = int(np.clip(units.clicks.sum() // CLICKS_PER_BIN, 1, MAX_BINS))
        bins = calibration_bins(units.logit, units.clicks, units.impressions, count)
        noise = 1.96 * np.sqrt(bins.observed * (1 - bins.observed) / bins.impressions)
        _points(axes, name, labels[name], 100 * bins.predicted, 100 * bins.observed, 100 * noise)
        top = max(top, 105 * float(np.maximum(bins.predicted, bins.observed + noise).max()))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, linestyle="--", zorder=0, label="perfect")
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted CTR, %", ylabel="observed CTR, %")
    axes.legend(frameon=False, loc="upper left", title="bars: 95% binomial noise")
    tidy(axes)


def coverage(path: Path, experiments: Sequence[Experiment]) -> None:
    """Nominal level against predictive coverage: mean over seeds, bars from lowest to highest."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    nominal = 100 * np.array(LEVELS)
    axes.plot([40, 100], [40, 100], color="0.6", linewidth=1, linestyle="--", zorder=0, label="promised")
    for name in experiments[0].evaluations:
        covered = [run.evaluations[name].intervals.predictive for run in experiments]
        runs = 100 * np.array([[levels[level] for level in LEVELS] for levels in covered])
        mean = runs.mean(0)
        _points(axes, name, LABELS[name], nominal, mean, np.array([mean - runs.min(0), runs.max(0) - mean]))
    axes.set(xlim=(45, 100), ylim=(40, 100), xlabel="promised level of the interval, %")
    axes.set_ylabel("held-out creatives covered, %")
    axes.set_xticks(nominal)
    plural = f"bars: range of {len(experiments)} seeds" if len(experiments) > 1 else "one seed"
    axes.legend(frameon=False, loc="upper left", title=plural)
    axes.set_title("Coverage of the intervals (binomial noise allowed for)")
    tidy(axes)
    _save(figure, path)


def tidy(axes: Axes) -> None:
    """Light grid, no box."""
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _points(axes: Axes, name: str, label: str, x: np.ndarray, y: np.ndarray, reach: np.ndarray) -> None:
    axes.errorbar(x, y, reach, color=COLOURS[name], label=label, marker="o", markersize=5, linewidth=1.2, capsize=3)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130)
    plt.close(figure)
