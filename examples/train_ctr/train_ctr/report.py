"""Figures over seeds: a table for people and `report.json` for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train_ctr.coverage import LEVELS
from train_ctr.experiment import Evaluation, Experiment

_BOTH_MODELS: Sequence[tuple[str, str, Callable[[Any], float]]] = (
    ("AUC", "{:.4f}", lambda quality: quality.auc),
    ("log loss", "{:.5f}", lambda quality: quality.log_loss),
    ("NE (log loss / base-rate entropy)", "{:.4f}", lambda quality: quality.ne),
    ("ECE, 15 bins", "{:.5f}", lambda quality: quality.ece),
    ("ECE / base rate", "{:.3f}", lambda quality: quality.relative_ece),
)


def table(experiments: Sequence[Experiment], names: dict[str, str]) -> str:
    """One block a part; `names` titles the parts. Mean and range where there are several seeds."""
    seeds = ", ".join(str(experiment.seed) for experiment in experiments)
    spread = "mean (lowest to highest)" if len(experiments) > 1 else "one run"
    blocks = [f"Held-out figures, {spread}, seed{'s' if len(experiments) > 1 else ''} {seeds}"]
    for part in experiments[0].evaluations:
        evaluations = [experiment.evaluations[part] for experiment in experiments]
        sizes = evaluations[0].quality
        blocks.append(
            f"\n{names[part]} (first seed: {len(evaluations[0].units.clicks):,} units, "
            f"{sizes.impressions:,} impressions, {sizes.clicks:,} clicks)\n"
            f"  {'':34}{'DeepFM':32}linear baseline"
        )
        for label, style, pick in _BOTH_MODELS:
            deep = _spread([pick(e.quality) for e in evaluations], style)
            linear = _spread([pick(e.linear) for e in evaluations], style)
            blocks.append(f"  {label:34}{deep:32}{linear}")
        for level in LEVELS:
            value = _spread([100 * e.intervals.predictive[level] for e in evaluations], "{:.1f}")
            blocks.append(f"  {f'coverage of {level:.0%} intervals, %':34}{value}")
        error = max(100 * e.intervals.standard_error for e in evaluations)
        ratio = _spread([e.intervals.width_ratio for e in evaluations], "{:.2f}")
        blocks.append(f"  {'standard error of the 90% one':34}{error:.1f} points in one run, clusters resampled")
        blocks.append(f"  {'median upper / lower bound, 90%':34}{ratio}")
    return "\n".join(blocks)


def write_json(path: Path, experiments: Sequence[Experiment]) -> None:
    """Every figure of every run."""
    runs = [
        {
            "seed": experiment.seed,
            "epochs": experiment.epochs,
            "interval": dataclasses.asdict(experiment.variance),
            "parts": {name: _figures(evaluation) for name, evaluation in experiment.evaluations.items()},
        }
        for experiment in experiments
    ]
    path.write_text(json.dumps({"runs": runs}, indent=2) + "\n", encoding="utf-8")


def metrics(experiment: Experiment) -> dict[str, float]:
    """A run's main figures under flat names, for a tracking server."""
    return {
        f"{part}_{name}": value
        for part, evaluation in experiment.evaluations.items()
        for name, value in (
            ("auc", evaluation.quality.auc),
            ("log_loss", evaluation.quality.log_loss),
            ("ne", evaluation.quality.ne),
            ("ece", evaluation.quality.ece),
            ("coverage_90", evaluation.intervals.predictive[0.9]),
        )
    }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    intervals = dataclasses.asdict(evaluation.intervals)
    intervals["predictive"] = {f"{level:g}": value for level, value in evaluation.intervals.predictive.items()}
    return {
        "deepfm": dataclasses.asdict(evaluation.quality),
        "auc_standard_error": evaluation.auc_standard_error,
        "linear": dataclasses.asdict(evaluation.linear),
        "coverage": intervals,
    }


def _spread(values: Sequence[float], style: str) -> str:
    mean = style.format(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({style.format(min(values))} to {style.format(max(values))})"
