"""Asks the server about campaigns by their ids alone, and keeps what the replies say of the features."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
from demo_ctr.client import build_column
from demo_ctr.stubs import Stubs

from demo_features.model import MODEL_NAME

DEADLINE_SECONDS = 1.0
QUALITY_SECONDS = 10.0
CANDIDATES = 32


@dataclass(frozen=True)
class Answer:
    """One reply, row by row: CTR with its bounds, what became of the features' row, and the row's age in seconds."""

    ctr: list[tuple[float, float, float]]
    statuses: list[str]
    ages: list[float]


class Asker:
    """A connection."""

    def __init__(self, stubs: Stubs, address: str) -> None:
        self._pb = stubs
        self._channel = grpc.insecure_channel(address)
        self._ask = stubs.ctr_grpc.CtrServiceStub(self._channel).PredictCtr

    def close(self) -> None:
        self._channel.close()

    def quality(self, version: int, start: int, end: int) -> Any:
        """The engine's own account of a version's predictions between two times, in seconds since 1970."""
        service = self._pb.analytics_grpc.AnalyticsServiceStub(self._channel)
        request = self._pb.analytics.ModelQualityRequest(
            model=self._pb.model.ModelSelector(name=MODEL_NAME, version=version), bins=5
        )
        request.start_time.FromSeconds(start)
        request.end_time.FromSeconds(end)
        return service.ModelQuality(request, timeout=QUALITY_SECONDS)

    def ask(self, ids: Sequence[str]) -> Answer:
        """Raises grpc.RpcError where the call fails."""
        reply = self._ask(
            self._pb.ctr.PredictCtrRequest(
                model=self._pb.model.ModelSelector(name=MODEL_NAME),
                candidates=[build_column(self._pb, "campaign_id", ids)],
            ),
            timeout=DEADLINE_SECONDS,
        )
        (features,) = reply.features
        name = self._pb.ctr.EntityFeatures.Status.Name
        return Answer(
            [(p.ctr, p.ctr_lower, p.ctr_upper) for p in reply.predictions],
            [name(status).removeprefix("STATUS_") for status in features.statuses],
            [age / 1000 for age in features.ages_ms],
        )


@dataclass
class Second:
    """What callers saw within one second."""

    requests: int
    failed: int
    statuses: Counter[str]
    oldest: float


class Crowd:
    """Callers who ask all the while it is entered, for campaigns by Zipf's law. `seconds` has what they saw."""

    def __init__(self, asker: Asker, campaigns: int, callers: int, pause: float) -> None:
        self.seconds: dict[int, Second] = {}
        self.errors: Counter[str] = Counter()
        self._asker = asker
        self._campaigns = campaigns
        self._pause = pause
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._start = time.monotonic()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(callers)]

    def __enter__(self) -> Crowd:
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._start

    def _run(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self._ended.is_set():
            ids = [zipf(draw, self._campaigns) for _ in range(CANDIDATES)]
            try:
                answer, failure = self._asker.ask(ids), None
            except grpc.RpcError as error:
                answer, failure = None, f"{error.code().name}: {error.details()}"
            with self._lock:
                second = self.seconds.setdefault(int(self.now()), Second(0, 0, Counter(), 0.0))
                second.requests += 1
                if answer is None:
                    second.failed += 1
                    self.errors[failure or ""] += 1
                else:
                    second.statuses.update(answer.statuses)
                    second.oldest = max(second.oldest, *answer.ages)
            time.sleep(self._pause)


def zipf(draw: random.Random, campaigns: int) -> str:
    """A campaign by Zipf's law with exponent 1, as the seeded traffic has it."""
    return f"campaign_{int((campaigns + 1) ** draw.random()) - 1}"
