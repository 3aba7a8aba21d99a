"""From the moment an alias is moved, by the clock of who moves it, to the first answer of the new version."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from demo_mlflow.measure.figures import Figures, spread, told
from demo_mlflow.stage import Stage

# Answers come 2.5 ms apart: that is how finely the first one of a version can be seen.
RATE = 400
SETTLE_SECONDS = 0.3
PATIENCE_SECONDS = 30.0
NEW, BY_POLL = 100, 40


def measure(make: Callable[[str], Stage], binary: Path) -> Figures:
    """New versions by webhook, back to a warm one by webhook, new versions by poll alone."""
    by_webhook = _moves(make("latency-webhook"), binary, NEW, webhook=True, back=True)
    by_poll = _moves(make("latency-poll"), binary, BY_POLL, webhook=False, back=False)
    return {
        "new version, webhook": by_webhook["new"],
        "rollback to a warm version, webhook": by_webhook["back"],
        "new version, poll of 1 s alone": by_poll["new"],
        "errors": by_webhook["errors"] + by_poll["errors"],
        "mixed": by_webhook["mixed"] + by_poll["mixed"],
    }


def _moves(stage: Stage, binary: Path, count: int, webhook: bool, back: bool) -> dict[str, object]:
    """Each new version is fetched, checked and warmed; then, if `back`, the alias returns to the one before."""
    start = stage.add_good()
    fresh = [stage.add_again(start) for _ in range(count)]
    stage.promote(start)
    # A webhook alone: the poll is too rare to help.
    poll = {"registry.poll_interval": "60s" if webhook else "1s"}
    dice = random.Random(1)
    new, returned = [], []
    with stage.server(binary, poll, webhook) as server, stage.traffic(server, RATE) as traffic:
        traffic.first_answer(start, time.monotonic(), PATIENCE_SECONDS)
        before = start
        for version in fresh:
            # Moves fall anywhere between two polls.
            time.sleep(SETTLE_SECONDS if webhook else SETTLE_SECONDS + dice.random())
            moved = stage.promote(version)
            new.append(traffic.first_answer(version, moved, PATIENCE_SECONDS) - moved)
            if back:
                time.sleep(SETTLE_SECONDS)
                moved = stage.promote(before)
                returned.append(traffic.first_answer(before, moved, PATIENCE_SECONDS) - moved)
                time.sleep(SETTLE_SECONDS)
                moved = stage.promote(version)
                traffic.first_answer(version, moved, PATIENCE_SECONDS)
            before = version
    errors, mixed = sum(bool(a.error) for a in traffic.answers), sum(a.mixed for a in traffic.answers)
    found: dict[str, object] = {"new": spread(new), "errors": errors, "mixed": mixed}
    if returned:
        found["back"] = spread(returned)
    return found


def text(found: Figures) -> list[str]:
    return [f"{name}: {told(value)}" for name, value in found.items() if isinstance(value, dict)] + [
        f"failed requests {found['errors']}, mixed {found['mixed']}"
    ]
