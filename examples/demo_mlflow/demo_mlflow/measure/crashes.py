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
# What the network does before and after a kill. Fast, a promotion takes a tenth of a second; slow, one second and more.
SLOW_BYTES_PER_SECOND = 700_000
NETWORK = {"fast": (False, False), "slow": (True, False), "slow, and still slow after it": (True, True)}
LONGEST_SECONDS = {True: 1.2, False: 0.2}
PATIENCE_SECONDS = 30.0


def measure(make: Callable[[str], Stage], binary: Path) -> Figures:
    stage = make("crashes")
    serving = stage.add_good()
    stage.promote(serving)
    dice = random.Random(2)
    back: dict[str, list[float]] = {name: [] for name in NETWORK}
    first: dict[str, Counter[str]] = {name: Counter() for name in NETWORK}
    with (
        proxy.running(stage.registry.url) as before,
        stage.server(binary, {"registry.mlflow_url": before.url}, webhook=True) as server,
        stage.traffic(server, RATE) as traffic,
    ):
        traffic.first_answer(serving, time.monotonic(), PATIENCE_SECONDS)
        for kill in range(KILLS):
            name = list(NETWORK)[kill % len(NETWORK)]
            slow, still_slow = NETWORK[name]
            version = stage.add_again(serving)
            stage.teach(traffic, version)
            before.trickle("model.onnx" if slow else "", SLOW_BYTES_PER_SECOND)
            stage.promote(version)
            time.sleep(dice.uniform(0, LONGEST_SECONDS[slow]))
            server.kill()
            if not still_slow:
                before.trickle("", 0)
            killed = time.monotonic()
            server.start_and_wait()
            answer = traffic.next_answer(killed, PATIENCE_SECONDS)
            before.trickle("", 0)
            back[name].append(answer.answered - killed)
            first[name]["the new version" if answer.version == version else "the version before"] += 1
            traffic.first_answer(version, killed, PATIENCE_SECONDS)
            serving = version
    return {
        "kills": KILLS,
        "network": {name: {"first answer": dict(first[name]), **spread(back[name])} for name in NETWORK},
        "mixed": sum(answer.mixed for answer in traffic.answers),
    }


def text(found: Figures) -> list[str]:
    network = found["network"]
    assert isinstance(network, dict)
    lines = [f"{name}: first answer by {at['first answer']} after {told(at)}" for name, at in network.items()]
    return [
        f"{found['kills']} kills, restarted at once, each followed by the promoted version",
        *lines,
        f"answers that fit no single version: {found['mixed']}",
    ]
