"""Broken versions: each is refused with its reason in sight while the version before keeps serving."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from demo_ctr.errors import DemoError

from demo_mlflow import broken, page, proxy
from demo_mlflow.measure.figures import Figures
from demo_mlflow.stage import Stage
from demo_mlflow.traffic import Traffic

RATE = 100
FETCH_TIMEOUT = 3.0
PATIENCE_SECONDS = 30.0
ENDLESS = "slow artifact that never ends"


def measure(make: Callable[[str], Stage], binary: Path) -> Figures:
    stage = make("refusals")
    good = stage.add_good()
    stage.promote(good)
    cases: list[Figures] = []
    with proxy.running(stage.registry.url) as before:
        settings = {"registry.mlflow_url": before.url, "registry.fetch_timeout": f"{FETCH_TIMEOUT:.0f}s"}
        with stage.server(binary, settings, webhook=True) as server, stage.traffic(server, RATE) as traffic:
            traffic.first_answer(good, time.monotonic(), PATIENCE_SECONDS)
            for name, fault in broken.FAULTS.items():
                directory = stage.folder / f"fault-{len(cases)}"
                broken.make(stage.folders[good], directory, fault)
                cases.append(_refused(stage, traffic, server.http, good, name, stage.add(directory)))
            endless = stage.add_again(good)
            before.trickle("model.onnx", bytes_per_second=2000)
            cases.append(_refused(stage, traffic, server.http, good, ENDLESS, endless))
    return {
        "cases": cases,
        "errors": sum(bool(answer.error) for answer in traffic.answers),
        "mixed": sum(answer.mixed for answer in traffic.answers),
        "versions seen": sorted({answer.version for answer in traffic.answers if not answer.error}),
    }


def _refused(stage: Stage, traffic: Traffic, http: str, good: int, name: str, version: int) -> Figures:
    moved = stage.promote(version)
    try:
        check, reason = page.wait_for_refusal(http, stage.model, version, PATIENCE_SECONDS)
    except DemoError as error:
        check, reason = "NOT REFUSED", str(error)
        stage.promote(good)
    took = time.monotonic() - moved
    # Asked after the refusal, the version before must still be the one that answers.
    traffic.first_answer(good, time.monotonic(), PATIENCE_SECONDS)
    stage.promote(good)
    return {"fault": name, "check": check, "reason": reason, "seconds": round(took, 2)}


def text(found: Figures) -> list[str]:
    cases = found["cases"]
    assert isinstance(cases, list)
    lines = [f"{case['fault']}, {case['seconds']} s: `{case['check']}`: {case['reason']}" for case in cases]
    return [*lines, f"failed requests {found['errors']}, versions that answered {found['versions seen']}"]
