"""Command line of the demo: `python -m demo_mlflow --server BINARY --out DIR`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from demo_ctr.errors import DemoError
from demo_ctr.server import Server
from train_ctr.console import Progress
from train_ctr.mlflow_rest import MlflowError

from demo_mlflow import broken, page, text
from demo_mlflow.mlflow_server import MlflowServer
from demo_mlflow.stage import COMMITTED, Stage
from demo_mlflow.traffic import Traffic, summarise

MODEL = "ctr-upworthy"
RATE = 300
# Long enough for a p99 of the time between two moves of the alias.
BETWEEN_SECONDS = 4.0
PATIENCE_SECONDS = 30.0
STAY_SECONDS = 600


def main() -> int:
    options = _options()
    # Asked to stop, it leaves as on Ctrl-C, so that what it started stops, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options.server, options.out, options.stay)
    except (DemoError, MlflowError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _run(binary: Path, out: Path, stay: bool) -> int:
    shutil.rmtree(out, ignore_errors=True)
    mlflow = MlflowServer(out / "mlflow", out / "mlflow.log")
    try:
        progress = Progress("MLflow")
        progress("starting")
        mlflow.start_and_wait()
        progress.done(f"ready at {mlflow.url}")
        progress = Progress(MODEL)
        progress("registering versions")
        stage = Stage(mlflow.registry(), MODEL, out)
        stage.add(COMMITTED)
        second = stage.add_good()
        broken.make(stage.folders[second], out / "broken", broken.golden_mismatch)
        third = stage.add(out / "broken")
        stage.promote(1)
        progress.done("three versions registered, the third one broken; champion is 1")
        progress = Progress("server")
        with stage.server(binary, webhook=True) as server:
            progress.done(f"serves version 1 at {server.grpc}; status page http://{server.http}/")
            good = _promotions(stage, server, second, third)
            if stay:
                _stay(mlflow, server)
        return 0 if good else 1
    finally:
        mlflow.stop()


def _promotions(stage: Stage, server: Server, second: int, third: int) -> bool:
    """Forward, to a broken version, and back, with callers all the while. Whether they noticed nothing."""
    print(f"\n{RATE} requests a second from here on, each answer checked against the version that it names\n")
    moves: list[float] = []
    with stage.traffic(server, RATE) as traffic:
        start = traffic.first_answer(1, time.monotonic(), PATIENCE_SECONDS)
        time.sleep(BETWEEN_SECONDS)
        moves.append(_move(stage, traffic, start, second, "promoted"))
        time.sleep(BETWEEN_SECONDS)
        moves.append(stage.promote(third))
        check, reason = page.wait_for_refusal(server.http, stage.model, third, PATIENCE_SECONDS)
        print(text.refused(moves[-1] - start, third, check, reason))
        time.sleep(BETWEEN_SECONDS)
        moves.append(_move(stage, traffic, start, 1, "rolled back"))
        time.sleep(BETWEEN_SECONDS)
    print("\n" + text.callers(traffic.answers, moves))
    seen = summarise(traffic.answers)
    return not seen.errors and not seen.mixed and third not in seen.versions


def _move(stage: Stage, traffic: Traffic, start: float, version: int, what: str) -> float:
    moved = stage.promote(version)
    answered = traffic.first_answer(version, moved, PATIENCE_SECONDS)
    print(text.moved(moved - start, version, what, answered - moved))
    return moved


def _stay(mlflow: MlflowServer, server: Server) -> None:
    minutes = STAY_SECONDS // 60
    print(f"\nBoth run on, for you to look and to move the alias yourself; Ctrl-C or {minutes} minutes end them.")
    print(f"  status page  http://{server.http}/\n  MLflow       {mlflow.url}/#/models/{MODEL}")
    time.sleep(STAY_SECONDS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_mlflow", description="Promotes versions in MLflow while callers ask.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and data; what is there is deleted")
    parser.add_argument("--stay", action="store_true", help="keep both servers until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
