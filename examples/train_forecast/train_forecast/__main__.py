"""Trains, writes a model version, and compares it with seasonal naive forecasts and Prophet.

python -m train_forecast --series NAB/data --out models/hourly/1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from train_ctr.console import Progress

from train_forecast import artifact, baselines, comparison, series, windows
from train_forecast.artifact import Example
from train_forecast.baselines import Forecaster
from train_forecast.nhits import Nhits, Shape
from train_forecast.series import TRAINING, VALIDATION, Series
from train_forecast.training import Settings, fit

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
NETWORK = "N-HiTS"
SHORTEST = 300
"""Hours that a series must have to be trained on: some windows for each part."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="train_forecast", description=__doc__.split("\n")[0])
    parser.add_argument("--series", type=Path, required=True, help="folder with real*/*.csv of timestamp,value")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model version, such as models/hourly/1")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    found = series.read_folder(options.series, SHORTEST)
    print(f"{len(found)} hourly series, {sum(np.isfinite(s.values).sum() for s in found)} values")
    model = train(found, Settings(), options.seed)
    worst = artifact.write(options.out, options.out.resolve().parent.name, "h", model, examples(found))
    print(f"{options.out}: graph and network differ by {worst:.1e} of an example's greatest value")
    scores = compare(found, options.out, options.seed)
    print(comparison.table(comparison.by_group(scores), "90 % interval"))
    print(comparison.wins(scores, NETWORK))
    return 0


def train(found: Sequence[Series], settings: Settings, seed: int) -> Nhits:
    """A network for all of the series."""
    rng = np.random.default_rng(seed)
    model = Nhits.initialise(Shape(windows.CONTEXT, windows.HORIZON, QUANTILES), rng)

    def parts(begin: float, end: float, step: int) -> list[windows.Windows]:
        has = [s for s in found if windows.origins(s, s.cut(begin), s.cut(end), step)]
        return [windows.cut([s], begin, end, step) for s in has]

    progress = Progress("train")
    training, validation = parts(0, TRAINING, 1), parts(TRAINING, VALIDATION, 3)

    def report(epoch: int, loss: float) -> None:
        progress(f"epoch {epoch}, validation loss {loss:.4f}")

    best = fit(model, training, validation, settings, rng, report)
    progress.done(f"{sum(map(len, training))} windows, best after epoch {best}")
    return model


def examples(found: Sequence[Series]) -> list[Example]:
    """Worked examples of what requests bring: whole windows, gaps, little history, too much of it, no change."""
    whole, gaps = [], []
    for one in sorted(found, key=lambda s: (-len(s.values), s.name)):
        contexts = [windows.at(one, origin)[0] for origin in windows.origins(one, 0, len(one.values), 1)]
        lost = [int(np.isnan(context).sum()) for context in contexts]
        for kept, wanted in ((whole, [n == 0 for n in lost]), (gaps, [n > 0 for n in lost])):
            if any(wanted):
                # The last such window.
                kept.append(Example(one.name, contexts[-1 - wanted[::-1].index(True)].tolist()))
    if not whole:
        raise ValueError("no series has a week without gaps: nothing to make worked examples of")
    first = whole[0]
    made = [Example("more than the context", [0.0, *first.context]), Example("no change", [5.0] * windows.CONTEXT)]
    made.append(Example("little history", first.context[-windows.MIN_VALUES :]))
    spoilt = [np.nan if hour % 5 == 0 else value for hour, value in enumerate(first.context)]
    made.append(Example("every fifth value missing", spoilt))
    return whole[:3] + gaps[:1] + made


def compare(found: Sequence[Series], directory: Path, seed: int) -> list[comparison.Score]:
    """The graph as it was written, beside the baselines."""
    runner = artifact.session(directory / "model.onnx")
    forecasters: dict[str, Forecaster] = {
        NETWORK: lambda one, origin: artifact.run(runner, windows.at(one, origin)[0][None])[0].astype(float),
        "seasonal naive, day": baselines.seasonal_naive(baselines.DAY, QUANTILES),
        "seasonal naive, week": baselines.seasonal_naive(baselines.WEEK, QUANTILES),
    }
    prophet = baselines.prophet(QUANTILES, seed)
    if prophet is None:
        print("Prophet is not installed, so it is not compared with; examples/prophet_cases/requirements.txt has it")
    else:
        forecasters["Prophet"] = prophet
    progress = Progress("compare")
    scores = comparison.compare(found, forecasters, QUANTILES, progress)
    progress.done("done")
    return scores


if __name__ == "__main__":
    sys.exit(main())
