"""Holds forecasters against each other on the same held-out windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train_forecast import metrics
from train_forecast.baselines import DAY, Forecaster
from train_forecast.series import VALIDATION, Series
from train_forecast.windows import HORIZON, origins


@dataclass(frozen=True)
class Score:
    """Of one forecaster on one window. Losses are in units of the series' mean absolute change from day to day before
    the origin; `covered` is of the interval between the least and the greatest quantile."""

    group: str
    series: str
    forecaster: str
    pinball: float
    mase: float
    covered: float


def compare(
    found: Sequence[Series],
    forecasters: Mapping[str, Forecaster],
    probabilities: Sequence[float],
    progress: Callable[[str], None],
) -> list[Score]:
    """One origin a day over the last part of each series, which nothing was trained on. A series that had not changed
    from day to day before an origin has no unit there, and is left out."""
    scores = []
    for one in found:
        for origin in origins(one, one.cut(VALIDATION), len(one.values), HORIZON):
            unit = metrics.naive_error(one.values[:origin], DAY)
            if not unit > 0:
                continue
            progress(f"{one.name}, hour {origin}")
            target = one.values[None, origin : origin + HORIZON]
            for name, forecast in forecasters.items():
                quantiles = np.sort(forecast(one, origin), axis=1)[None]
                pinball = metrics.pinball(target, quantiles, probabilities)[0] / unit
                error = metrics.absolute_error(target, quantiles[:, :, probabilities.index(0.5)])[0] / unit
                covered = metrics.covered(target, quantiles[:, :, 0], quantiles[:, :, -1])[0]
                scores.append(Score(one.group, one.name, name, float(pinball), float(error), float(covered)))
    return scores


def by_group(scores: Sequence[Score]) -> dict[tuple[str, str], list[Score]]:
    """By group of series and forecaster, all groups last."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for group in [*sorted({score.group for score in scores}), "all"]:
        for score in scores:
            if group in (score.group, "all"):
                groups.setdefault((group, score.forecaster), []).append(score)
    return groups


def table(groups: Mapping[tuple[str, str], Sequence[Score]], interval: str) -> str:
    """Means over windows, as Markdown."""
    lines = [f"| series | forecaster | windows | pinball | MASE | {interval} covers |", "| --- " * 6 + "|"]
    for (group, name), scores in groups.items():
        pinball, mase, covered = np.mean([(s.pinball, s.mase, s.covered) for s in scores], axis=0)
        lines.append(f"| {group} | {name} | {len(scores)} | {pinball:.3f} | {mase:.3f} | {covered:.1%} |")
    return "\n".join(lines)


def wins(scores: Sequence[Score], name: str) -> str:
    """On how many series a forecaster has the lower mean pinball loss."""
    losses: dict[str, dict[str, list[float]]] = {}
    for score in scores:
        losses.setdefault(score.forecaster, {}).setdefault(score.series, []).append(score.pinball)
    means = {forecaster: {s: np.mean(parts) for s, parts in by.items()} for forecaster, by in losses.items()}
    lines = []
    for other in means.keys() - {name}:
        won = sum(means[name][s] < means[other][s] for s in means[name])
        lines.append(f"lower pinball loss than {other} on {won} of {len(means[name])} series")
    return "\n".join(sorted(lines))
