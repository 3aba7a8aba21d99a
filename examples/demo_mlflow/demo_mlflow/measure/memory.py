"""Resident memory over many loads and unloads, a small model and one of 12 MB in turn."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from demo_ctr.errors import DemoError

from demo_mlflow.measure.figures import Figures
from demo_mlflow.stage import Stage

CYCLES, FIRST, EVERY = 200, 10, 10
RATE = 50
WIDEN = 64
SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0


def measure(make: Callable[[str], Stage], binary: Path) -> Figures:
    """A cycle loads the large version, unloads the small one, and the other way round."""
    stage = make("memory")
    small, large = stage.add_good(), stage.add_good(widen=WIDEN)
    stage.promote(small)
    resident: dict[int, float] = {}
    settings = {"loading.keep_warm": "0s"}
    with stage.server(binary, settings, webhook=True) as server, stage.traffic(server, RATE) as traffic:
        for cycle in range(1, CYCLES + 1):
            for version in (large, small):
                traffic.first_answer(version, stage.promote(version), PATIENCE_SECONDS)
            if cycle == 1 or cycle % EVERY == 0:
                time.sleep(SETTLE_SECONDS)
                resident[cycle] = resident_mb(server.pid)
    return {
        "cycles": CYCLES,
        "resident_mb": resident,
        "ratio": round(resident[CYCLES] / resident[FIRST], 3),
        "errors": sum(bool(answer.error) for answer in traffic.answers),
    }


def resident_mb(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), flags=re.M)
    if found is None:
        raise DemoError("memory can be read on Linux only")
    return round(int(found.group(1)) / 1024, 1)


def text(found: Figures) -> list[str]:
    resident = {int(cycle): value for cycle, value in found["resident_mb"].items()}  # type: ignore[attr-defined]
    at = ", ".join(f"{resident[cycle]:.0f} MB after {cycle}" for cycle in (1, FIRST, 50, 100, CYCLES))
    return [f"resident: {at}; {CYCLES} against {FIRST}: {found['ratio']:.2f}; failed requests {found['errors']}"]
