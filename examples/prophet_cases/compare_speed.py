#!/usr/bin/env python3
"""Time the engine's Prophet evaluator beside Prophet itself, on the same model and dates, in one run.

Needs Rust and, the first time, the network: Prophet is installed into .cache/prophet unless it is there.
Prophet's `predict` with 1,000 samples gives a point forecast, components and both intervals; the engine is timed for
the point forecast with interval, and for each addition. The model is read beforehand on both sides.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".cache/prophet/bin/python"
MODEL = ROOT / "domain/testdata/prophet/cases/daily/model.json"
DAYS = (30, 365)
UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def environment() -> None:
    """Continue in an environment that has Prophet."""
    try:
        import prophet  # noqa: F401
    except ImportError:
        if not PYTHON.exists():
            subprocess.run([sys.executable, "-m", "venv", PYTHON.parents[1]], check=True)
            requirements = Path(__file__).with_name("requirements.txt")
            subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        os.execv(PYTHON, [str(PYTHON), *sys.argv])


def prophet_times(path: Path, repeats: int) -> dict[int, list[float]]:
    """Seconds of `predict`, by days."""
    from prophet.serialize import model_from_json

    model = model_from_json(path.read_text())
    model.uncertainty_samples = 1000
    times = {}
    for days in DAYS:
        future = model.make_future_dataframe(days, include_history=False)
        model.predict(future)
        times[days] = []
        for _ in range(repeats):
            start = time.perf_counter()
            model.predict(future)
            times[days].append(time.perf_counter() - start)
    return times


def engine_times(path: Path) -> dict[tuple[str, int], float]:
    """Median seconds, by benchmark and days."""
    command = ["cargo", "bench", "--quiet", "--package", "aibuyer-domain", "--bench", "forecast"]
    table = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "AIBUYER_PROPHET_MODEL": str(path)},
    ).stdout
    times, name = {}, ""
    for line in table.splitlines():
        if group := re.match(r"[├╰]─ (\w+)", line):
            name = group[1]
        elif row := re.match(r"[│ ] +[├╰]─ (\d+) (.*)", line):
            median = re.search(r"([\d.]+) (\S+)", row[2].split("│")[2])
            times[name, int(row[1])] = float(median[1]) * UNITS[median[2]]
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="model file with a daily history")
    parser.add_argument("--repeats", type=int, default=10, help="runs of Prophet before and after the engine's")
    arguments = parser.parse_args()
    path = arguments.model.resolve()
    before = prophet_times(path, arguments.repeats)
    engine = engine_times(path)
    after = prophet_times(path, arguments.repeats)
    print(f"{'':28} {'days':>5} {'Prophet':>10} {'engine':>10} {'ratio':>8}")
    for (name, days), ours in sorted(engine.items()):
        if name.startswith(("interval", "nine")) and days in DAYS:
            theirs = sorted(before[days] + after[days])[arguments.repeats]
            print(f"{name:28} {days:5} {theirs * 1e3:7.2f} ms {ours * 1e6:7.1f} µs {theirs / ours:8.0f}")


if __name__ == "__main__":
    environment()
    main()
