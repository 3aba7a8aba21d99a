"""Command line: `python -m demo_mlflow.measure --server BINARY --out DIR [scene ...]`; results are JSON and a table."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo_ctr.errors import DemoError
from train_ctr.mlflow_rest import MlflowError

from demo_mlflow.measure import crashes, latency, memory, outage, refusals, swaps
from demo_mlflow.measure.figures import Figures
from demo_mlflow.mlflow_server import REPOSITORY, MlflowServer
from demo_mlflow.stage import Stage

RESULTS = REPOSITORY / "loadtest" / "results" / "promotions.json"
Make = Callable[[str], Stage]
# By name: what to run, and the lines that tell what came out.
SCENES: dict[str, tuple[Callable[[Make, Path, MlflowServer], Figures], Callable[[Figures], list[str]]]] = {
    "latency": (lambda make, binary, _: latency.measure(make, binary), latency.text),
    "swaps-cold": (lambda make, binary, _: swaps.measure(make, binary, "0s"), swaps.text),
    "swaps-warm": (lambda make, binary, _: swaps.measure(make, binary, "10m"), swaps.text),
    "memory": (lambda make, binary, _: memory.measure(make, binary), memory.text),
    "refusals": (lambda make, binary, _: refusals.measure(make, binary), refusals.text),
    "crashes": (lambda make, binary, _: crashes.measure(make, binary), crashes.text),
    "outage": (outage.measure, outage.text),
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(options.out, ignore_errors=True)
    try:
        for name in options.scenes or SCENES:
            _scene(name, options)
    except (DemoError, MlflowError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _scene(name: str, options: argparse.Namespace) -> None:
    run, text = SCENES[name]
    out = options.out / name
    mlflow = MlflowServer(out / "mlflow", out / "mlflow.log", in_background=name.startswith("swaps"))

    def make(model: str) -> Stage:
        (out / model).mkdir()
        return Stage(mlflow.registry(), model, out / model)

    print(f"{name} ...", flush=True)
    begun = time.monotonic()
    try:
        mlflow.start_and_wait()
        found = run(make, options.server, mlflow)
    finally:
        mlflow.stop()
    print(f"{name} ({time.monotonic() - begun:.0f} s)")
    for line in text(found):
        print(f"  {line}")
    # Each scene at once: a later one that fails takes nothing with it.
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | found
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(_page(results), encoding="utf-8")


def _page(results: dict[str, Figures]) -> str:
    """What is printed, of the last run of each scene."""
    parts = ["# Promotions\n", "A real MLflow, a real server. Written by `make measure-promotions`.\n"]
    for name, (_, text) in SCENES.items():
        if found := results.get(name):
            parts.append(f"## {name}\n\n{found['date']}\n")
            parts.append("\n".join(f"- {line}" for line in text(found)) + "\n")
    return "\n".join(parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_mlflow.measure", description="Measures promotions from a real MLflow.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and data; what is there is deleted")
    parser.add_argument("scenes", nargs="*", metavar="scene", choices=[*SCENES, []], help=", ".join(SCENES))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
