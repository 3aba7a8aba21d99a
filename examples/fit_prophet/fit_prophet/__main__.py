"""Command line of the demo: `python -m fit_prophet --server BINARY --out DIR [--csv FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from demo_ctr import server, stubs
from demo_ctr.errors import DemoError
from train_ctr.console import Progress

from fit_prophet import comparison, engine, picture, reference, series

MODEL = "forecast-demo"


def main() -> int:
    options = _options()
    try:
        return _run(options)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    whole = series.read(options.csv) if options.csv else reference.bundled_series()
    past, held_out = whole.split(options.held_out)
    progress = Progress("prophet")
    progress("fitting")
    model = reference.fit(past, options.interval_width)
    models = options.out / "models"
    reference.save(model, models / MODEL / "1")
    progress.done(f"fitted to {len(past.values):,} rows and saved to {models / MODEL / '1'}")
    if options.mlflow:
        version = reference.register(model, options.mlflow, MODEL)
        print(f"registered at {options.mlflow} as version {version} of {MODEL}, its champion")
    expected = reference.forecast(model, held_out.dates, seed=7)
    with server.running(options.server, models) as address:
        answers = engine.ask(address, stubs.load(), MODEL, held_out, options.interval_width)
    found = comparison.compare(answers.forecast, expected, held_out.values, float(np.abs(past.values).max()))
    path = options.out / f"{whole.name}.png"
    picture.draw(path, held_out, answers, expected, found, options.interval_width)
    print(f"{whole.name}: {len(held_out.values):,} rows that the fit has not seen, version {answers.version}")
    print(found.text())
    least = int(np.argmin(answers.p_values))
    print(
        f"alerts: {len(answers.alerts)} events; least likely value {held_out.values[least]:g} "
        f"at {held_out.dates[least].astype('datetime64[s]')}, p = {answers.p_values[least]:.1e}"
    )
    print(f"picture: {path}")
    return 0 if found.agrees else 1


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fit_prophet", description="Fits Prophet and serves the fit.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--out", type=Path, required=True, help="where the model version and the picture go")
    parser.add_argument("--csv", type=Path, help="date,value with a header; without it the series in Prophet's package")
    parser.add_argument("--mlflow", help="URL of an MLflow server that the fit is registered with, too")
    parser.add_argument("--held-out", type=_share, default=0.2, help="share of the rows, at the end, that is forecast")
    parser.add_argument("--interval-width", type=_share, default=0.99, help="outside of this interval is abnormal")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
