"""MLflow is killed: callers notice nothing, and the server even starts anew without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from demo_mlflow import page
from demo_mlflow.measure.figures import Figures
from demo_mlflow.mlflow_server import MlflowServer
from demo_mlflow.stage import Stage
from demo_mlflow.traffic import summarise

RATE = 300
DOWN_SECONDS = 30.0
PATIENCE_SECONDS = 60.0


def measure(make: Callable[[str], Stage], binary: Path, mlflow: MlflowServer) -> Figures:
    stage = make("outage")
    good, later = stage.add_good(), stage.add_good()
    stage.promote(good)
    with stage.server(binary) as server:
        with stage.traffic(server, RATE) as traffic:
            start = traffic.first_answer(good, time.monotonic(), PATIENCE_SECONDS)
            time.sleep(DOWN_SECONDS / 2)
            mlflow.kill()
            killed = time.monotonic()
            time.sleep(DOWN_SECONDS)
            ended = time.monotonic()
            told = page.text(server.http)
        up = summarise([a for a in traffic.answers if start <= a.due < killed])
        down = summarise([a for a in traffic.answers if killed <= a.due < ended])
        server.stop()
        begun = time.monotonic()
        server.start_and_wait()
        ready = time.monotonic() - begun
        with stage.traffic(server, RATE) as traffic:
            traffic.first_answer(good, time.monotonic(), PATIENCE_SECONDS)
            mlflow.start_and_wait()
            moved = stage.promote(later)
            followed = traffic.first_answer(later, moved, PATIENCE_SECONDS) - moved
        after = summarise(traffic.answers)
    return {
        "seconds without MLflow": DOWN_SECONDS,
        "errors": sum(down.errors.values()) + sum(after.errors.values()),
        "mixed": down.mixed + after.mixed,
        "p99_ms with and without MLflow": [round(1000 * up.p99, 2), round(1000 * down.p99, 2)],
        "start without MLflow, ready after_s": round(ready, 2),
        "MLflow back, next move followed after_s": round(followed, 2),
        "status page": [line.strip() for line in told.splitlines() if stage.registry.url in line],
    }


def text(found: Figures) -> list[str]:
    return [f"{name}: {value}" for name, value in found.items()]
