"""Requests at a constant rate, whatever happens, each answer held against the version that it names."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc
import numpy as np
from demo_ctr.client import read_reply
from demo_ctr.errors import DemoError
from demo_ctr.stubs import Stubs
from numpy.typing import NDArray

from demo_mlflow import expected

METHOD = "/aibuyer.serving.v1.CtrService/PredictCtr"
DEADLINE_SECONDS = 5.0
# A server that comes back is noticed at once, not after gRPC's usual seconds.
CHANNEL = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
CHANNEL += [("grpc.min_reconnect_backoff_ms", 50)]
LOOK_SECONDS = 0.002


@dataclass(frozen=True)
class Answer:
    """One call: when it was due and answered (`time.monotonic`), and by which version, or why by none."""

    due: float
    answered: float
    version: int = 0
    error: str = ""
    mixed: bool = False

    @property
    def latency(self) -> float:
        """From when the call was due, so that a wait before sending counts."""
        return self.answered - self.due


class Traffic:
    """Runs in a thread of its own while it is entered. `answers` grows in the order of the answers."""

    def __init__(self, address: str, stubs: Stubs, requests: Sequence[bytes], rate: float) -> None:
        self.answers: list[Answer] = []
        self._address = address
        self._stubs = stubs
        self._requests = requests
        self._rate = rate
        self._known: dict[int, Sequence[NDArray[np.float64]]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)

    def expect(self, version: int, answers: Sequence[NDArray[np.float64]]) -> None:
        """What `version` must answer to each request; any other answer that names it is a mix of versions."""
        self._known[version] = answers

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def first_answer(self, version: int, since: float, seconds: float) -> float:
        """When `version` first answered a call due after `since`. Raises DemoError if it takes over `seconds`."""
        return self._wait(lambda answer: answer.version == version, f"version {version}", since, seconds).answered

    def next_answer(self, since: float, seconds: float) -> Answer:
        """The first answer of any version to a call due after `since`."""
        return self._wait(lambda answer: not answer.error, "any version", since, seconds)

    def _wait(self, wanted: Callable[[Answer], bool], who: str, since: float, seconds: float) -> Answer:
        seen = 0
        while time.monotonic() < since + seconds:
            fresh = self.answers[seen:]
            seen += len(fresh)
            for answer in fresh:
                if answer.due >= since and wanted(answer):
                    return answer
            time.sleep(LOOK_SECONDS)
        last = self.answers[-1] if self.answers else None
        raise DemoError(f"{who} did not answer within {seconds:.0f} s; the last answer was {last}")

    async def _send(self) -> None:
        start, calls = time.monotonic(), set()
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL) as channel:
            call = channel.unary_unary(METHOD)
            number = 0
            while not self._ended.is_set():
                due = start + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._ask(call, number % len(self._requests), due))
                calls.add(task)
                task.add_done_callback(calls.discard)
                number += 1
            await asyncio.gather(*calls)

    async def _ask(self, call: grpc.aio.UnaryUnaryMultiCallable, index: int, due: float) -> None:
        try:
            body = await call(self._requests[index], timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            told = f"{error.code().name}: {error.details()}"
            self.answers.append(Answer(due, time.monotonic(), error=told))
            return
        answered = time.monotonic()
        reply = self._stubs.ctr.PredictCtrResponse.FromString(body)
        try:
            found = read_reply(reply, len(reply.predictions))
        except DemoError as error:
            self.answers.append(Answer(due, answered, error=str(error)))
            return
        wanted = self._known[reply.model.version][index] if reply.model.version in self._known else None
        fits = wanted is not None and found.shape == wanted.shape
        mixed = not (fits and np.allclose(found, wanted, rtol=expected.TOLERANCE, atol=0))
        self.answers.append(Answer(due, answered, reply.model.version, mixed=mixed))


@dataclass(frozen=True)
class Summary:
    """What callers saw: answers by version, failures by reason, answers that fit no single version, and how long."""

    requests: int
    versions: Mapping[int, int]
    errors: Mapping[str, int]
    mixed: int
    p50: float
    p99: float


def summarise(answers: Sequence[Answer]) -> Summary:
    good = [answer for answer in answers if not answer.error]
    p50, p99 = np.percentile([answer.latency for answer in good], [50, 99]) if good else (float("nan"),) * 2
    return Summary(
        requests=len(answers),
        versions=dict(sorted(Counter(answer.version for answer in good).items())),
        errors=dict(Counter(answer.error for answer in answers if answer.error)),
        mixed=sum(answer.mixed for answer in good),
        p50=float(p50),
        p99=float(p99),
    )
