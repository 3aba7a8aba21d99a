"""The server is killed at a random point of a download or swap: the next start serves a whole, verified version."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from demo_mlflow import proxy
from demo_mlflow.measure.figures import Figures, spread, told
from demo_mlflow.stage import Stage

KILLS = 30
RATE = 200
# Half of the kills meet the download, slowed to about a second; the other half the checks and the swap.
SLOW_BYTES_PER_SECOND = 700_000
LONGEST_SECONDS = {True: 1.2, False: 0.4}
PATIENCE_SECONDS = 30.0


def measure(make: Callable[[str], Stage], binary: Path) -> Figures:
    stage = make("crashes")
    serving = stage.add_good()
    stage.promote(serving)
    dice = random.Random(2)
    back: list[float] = []
    first: Counter[str] = Counter()
    with (
        proxy.running(stage.registry.url) as before,
        stage.server(binary, {"registry.mlflow_url": before.url}, webhook=True) as server,
        stage.traffic(server, RATE) as traffic,
    ):
        traffic.first_answer(serving, time.monotonic(), PATIENCE_SECONDS)
        for kill in range(KILLS):
            slow = kill % 2 == 0
            version = stage.add_again(serving)
            stage.teach(traffic, version)
            before.trickle("model.onnx" if slow else "", SLOW_BYTES_PER_SECOND)
            stage.promote(version)
            time.sleep(dice.uniform(0, LONGEST_SECONDS[slow]))
            server.kill()
            before.trickle("", 0)
            killed = time.monotonic()
            server.start_and_wait()
            answer = traffic.next_answer(killed, PATIENCE_SECONDS)
            back.append(answer.answered - killed)
            first["the new version" if answer.version == version else "the version before"] += 1
            traffic.first_answer(version, killed, PATIENCE_SECONDS)
            serving = version
    return {
        "kills": KILLS,
        "first answer after the restart": dict(first),
        "kill to first answer": spread(back),
        "mixed": sum(answer.mixed for answer in traffic.answers),
    }


def text(found: Figures) -> list[str]:
    back = found["kill to first answer"]
    assert isinstance(back, dict)
    return [
        f"{found['kills']} kills, answered first by {found['first answer after the restart']}, then by the new version",
        f"kill to first answer, restarted at once: {told(back)}",
        f"answers that fit no single version: {found['mixed']}",
    ]
