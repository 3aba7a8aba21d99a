"""200 promotions back and forth under constant load: does any caller notice?

Two kinds of callers ask at once: a few whose every answer is held against the version that it names, and
`aibuyer-loadtest`, whose latencies are those that count. A move of an alias costs MLflow processor time, too, on the
cores that the server answers with here. So MLflow gets only what nobody else wants; and to see what it costs all the
same, the alias of a model that nobody serves is moved now and then, with a webhook and the questions that follow one:
MLflow does the same, and nothing swaps.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from demo_ctr.errors import DemoError
from demo_ctr.server import Server

from demo_mlflow.measure.figures import Figures, spread, told
from demo_mlflow.mlflow_server import REPOSITORY
from demo_mlflow.stage import Stage
from demo_mlflow.traffic import Answer

MOVES, IDLE_EVERY = 200, 4
WINDOW_SECONDS = 0.5
CHECKED_RATE, RATE = 100, 500
PATIENCE_SECONDS = 30.0
GROUPS = 5


def measure(make: Callable[[str], Stage], binary: Path, keep_warm: str) -> Figures:
    """`keep_warm` of 0s loads and checks a version anew at each move; with 10m the alias only turns."""
    stage, other = make(f"swaps-{keep_warm}"), make(f"swaps-other-{keep_warm}")
    versions = stage.add_good(0.25), stage.add_good(-0.25)
    idle = other.add_good(), other.add_good()
    stage.promote(versions[0])
    settings = {"loading.keep_warm": keep_warm, "registry.poll_interval": "10s"}
    moves: list[float] = []
    idles: list[float] = []
    with stage.server(binary, settings, webhook=True) as server, stage.traffic(server, CHECKED_RATE) as traffic:
        traffic.first_answer(versions[0], time.monotonic(), PATIENCE_SECONDS)
        secret = (stage.folder / "webhook-secret").read_text(encoding="utf-8")
        hook = other.registry.create_webhook(other.model, f"http://{server.http}/webhooks/mlflow", secret)
        load = _load(server, stage)
        time.sleep(WINDOW_SECONDS)
        for move in range(MOVES):
            version = versions[(move + 1) % 2]
            # Looking for the first answer takes processor time: that is done when all is over.
            _window(moves, stage.promote(version))
            if move % IDLE_EVERY == 0:
                unserved = idle[move // IDLE_EVERY % 2]
                moved = other.promote(unserved)
                _ask_as_the_server_does(other, unserved)
                _window(idles, moved)
        calls, failed = _end(load, stage)
        other.registry.delete_webhook(hook)
    took = [_first_answer(traffic.answers, versions[(move + 1) % 2], moved) - moved for move, moved in enumerate(moves)]
    during = _latencies(calls, moves, 0.0)
    idle_during = _latencies(calls, idles, 0.0)
    quiet = _latencies(calls, moves + idles, WINDOW_SECONDS)
    return {
        "keep_warm": keep_warm,
        "moves": MOVES,
        "move to first answer": spread(took),
        "requests": len(calls) + len(traffic.answers),
        "failed": failed + sum(bool(answer.error) for answer in traffic.answers),
        "checked": len(traffic.answers),
        "mixed": sum(answer.mixed for answer in traffic.answers),
        "swap": _quantiles(during),
        "MLflow only": _quantiles(idle_during),
        "quiet": _quantiles(quiet),
        "swap p99 ÷ quiet p99": _ratio(during, quiet),
        "swap p99 ÷ MLflow only p99": _ratio(during, idle_during),
    }


def _ask_as_the_server_does(stage: Stage, version: int) -> None:
    """What the server asks MLflow after each webhook about a model that it serves."""
    stage.registry.find(f"name = '{stage.model}'")
    stage.registry.version(stage.model, version)
    stage.registry.download_uri(stage.model, version)


def _window(times: list[float], moved: float) -> None:
    """Half a second in which the move is felt, then as long in which it is not."""
    times.append(moved)
    time.sleep(max(0.0, moved + 2 * WINDOW_SECONDS - time.monotonic()))


def _first_answer(answers: Sequence[Answer], version: int, moved: float) -> float:
    """When `version` first answered a call due after the move to it."""
    for answer in answers:
        if answer.due >= moved and answer.version == version:
            if answer.answered > moved + 2 * WINDOW_SECONDS:
                break
            return answer.answered
    raise DemoError(f"version {version} did not answer before the next move")


def _load(server: Server, stage: Stage) -> subprocess.Popen[bytes]:
    program = REPOSITORY / "target" / "release" / "aibuyer-loadtest"
    if not program.is_file():
        raise DemoError(f"there is no load generator at {program}; build it first: make measure-promotions does")
    requests = json.loads((REPOSITORY / "loadtest/ghz/data/upworthy.json").read_text(encoding="utf-8"))
    for request in requests:
        request["model"] = {"name": stage.model}
    data = stage.folder / "requests.json"
    data.write_text(json.dumps(requests), encoding="utf-8")
    length = (MOVES + MOVES / IDLE_EVERY) * 2 * WINDOW_SECONDS + 2
    command = [program, "open", "--data", data, "--address", server.grpc, "--rates", str(RATE), "--details"]
    command += ["--schedule", "poisson", "--duration", f"{length:.0f}s", "--json", stage.folder / "calls.json"]
    with (stage.folder / "loadtest.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _end(load: subprocess.Popen[bytes], stage: Stage) -> tuple[list[tuple[float, float]], int]:
    """(due by `time.monotonic`, latency) of each call that succeeded, in seconds; and how many failed."""
    log = stage.folder / "loadtest.log"
    try:
        status = load.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        load.kill()
        raise DemoError(f"the load generator did not end; see {log}") from None
    if status != 0:
        raise DemoError(f"the load generator ended with status {status}; see {log}")
    report = json.loads((stage.folder / "calls.json").read_text(encoding="utf-8"))
    if int(report["tags"]["dropped"]):
        raise DemoError(f"the load generator could not send every call; see {log}")
    offset = time.monotonic() - time.time()
    good = [call for call in report["details"] if call["status"] == "OK"]
    calls = [(_seconds(call["timestamp"]) + offset, call["latency"] / 1e9) for call in good]
    return calls, len(report["details"]) - len(good)


def _seconds(timestamp: str) -> float:
    """Python reads microseconds at most."""
    return datetime.fromisoformat(timestamp[:26] + "+00:00").timestamp()


def _latencies(calls: Sequence[tuple[float, float]], times: Sequence[float], begin: float) -> np.ndarray:
    """Of calls due from `begin` to `begin` + the window after one of `times`."""
    due, latency = np.array(calls).T
    places = np.sort(np.array(times))
    last = places[np.maximum(np.searchsorted(places, due, side="right") - 1, 0)]
    since = due - last
    return latency[(since >= begin) & (since < begin + WINDOW_SECONDS)]


def _quantiles(latencies: np.ndarray) -> dict[str, float]:
    p50, p99, p999 = (round(1000 * float(value), 3) for value in np.percentile(latencies, [50, 99, 99.9]))
    return {"requests": len(latencies), "p50_ms": p50, "p99_ms": p99, "p99.9_ms": p999}


def _ratio(during: np.ndarray, quiet: np.ndarray) -> dict[str, float]:
    """Of the whole run, and the least and greatest of fifths of it."""
    parts = zip(np.array_split(during, GROUPS), np.array_split(quiet, GROUPS), strict=True)
    ratios = [float(np.percentile(a, 99) / np.percentile(b, 99)) for a, b in parts]
    whole = float(np.percentile(during, 99) / np.percentile(quiet, 99))
    return {"whole": round(whole, 2), "least": round(min(ratios), 2), "greatest": round(max(ratios), 2)}


def text(found: Figures) -> list[str]:
    took = found["move to first answer"]
    assert isinstance(took, dict)
    lines = [f"{found['moves']} moves, {found['requests']:,} requests: {found['failed']} failed"]
    lines.append(f"{found['checked']:,} answers checked: {found['mixed']} fit no single version")
    lines.append(f"move to first answer: {told(took)}")
    for name in ("swap", "MLflow only", "quiet"):
        at = found[name]
        assert isinstance(at, dict)
        lines.append(f"{name}: p50 {at['p50_ms']:.2f} ms, p99 {at['p99_ms']:.2f} ms, {at['requests']:,} requests")
    for name in ("swap p99 ÷ quiet p99", "swap p99 ÷ MLflow only p99"):
        at = found[name]
        assert isinstance(at, dict)
        lines.append(f"{name}: {at['whole']:.2f} ({at['least']:.2f} to {at['greatest']:.2f} in fifths of the run)")
    return lines
