"""Sends rows to the server over gRPC, several requests in flight, and collects the replies in row order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from demo_ctr.errors import DemoError
from demo_ctr.stubs import Stubs

IN_FLIGHT = 16
DEADLINE_SECONDS = 10.0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Replies:
    """Per row, float64 [rows]: `ctr` and its bounds at `level`; and how long requests took, in seconds."""

    version: int
    level: float
    ctr: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    wall_seconds: float
    latencies: NDArray[np.float64]


def request_ranges(rows: Sequence[Row], key: Callable[[int, Row], object]) -> list[range]:
    """Consecutive rows of equal key, as ranges of row numbers."""
    groups = (list(members) for _, members in groupby(range(len(rows)), lambda index: key(index, rows[index])))
    return [range(members[0], members[-1] + 1) for members in groups]


async def replay(
    address: str,
    stubs: Stubs,
    model_name: str,
    rows: Sequence[Row],
    ranges: Sequence[range],
    context: Sequence[str],
    progress: Callable[[str], None],
) -> Replies:
    """One request a range; requests start in order, `IN_FLIGHT` at a time."""
    answers = np.full((len(rows), 3), np.nan)
    latencies = np.zeros(len(ranges))
    versions: set[int] = set()
    levels: set[float] = set()
    waiting = iter(enumerate(ranges))

    async def worker(service: Any) -> None:
        for number, members in waiting:
            request = build_request(stubs, model_name, [rows[i] for i in members], context)
            start = time.perf_counter()
            reply = await service.PredictCtr(request, timeout=DEADLINE_SECONDS)
            latencies[number] = time.perf_counter() - start
            answers[members.start : members.stop] = read_reply(reply, len(members))
            versions.add(reply.model.version)
            levels.add(reply.interval_level)
            if number % 50 == 0:
                progress(f"{members.stop:,} of {len(rows):,} candidates sent")

    async with grpc.aio.insecure_channel(address) as channel:
        service = stubs.ctr_grpc.CtrServiceStub(channel)
        start = time.perf_counter()
        try:
            await asyncio.gather(*(worker(service) for _ in range(IN_FLIGHT)))
        except grpc.aio.AioRpcError as error:
            raise DemoError(f"the server answered {error.code().name}: {error.details()}") from error
        wall_seconds = time.perf_counter() - start
    if len(versions) != 1 or len(levels) != 1:
        raise DemoError(f"versions {versions} and levels {levels} answered; the demo needs one of each")
    ctr, lower, upper = answers.T
    return Replies(versions.pop(), levels.pop(), ctr, lower, upper, wall_seconds, latencies)


def build_request(stubs: Stubs, model_name: str, rows: Sequence[Row], context: Sequence[str]) -> Any:
    """Names in `context` are taken from the first row; every other feature becomes a candidate column.

    A feature that no row has is left out, which the server reads as missing everywhere.
    """
    shared = {name: [rows[0][name]] for name in context}
    own = {name: [row[name] for row in rows] for name in rows[0] if name not in context}
    return stubs.ctr.PredictCtrRequest(
        model=stubs.model.ModelSelector(name=model_name),
        context=_columns(stubs, shared),
        candidates=_columns(stubs, own),
        candidate_count=len(rows),
    )


def build_column(stubs: Stubs, name: str, values: Sequence[Any]) -> Any:
    """Packs one feature, typed by its first value; None becomes an entry of `missing`."""
    column = stubs.column.Column(name=name, missing=[i for i, value in enumerate(values) if value is None])
    present = next(value for value in values if value is not None)
    # A truth value is an int to Python, so it is asked first.
    if isinstance(present, bool):
        column.bools.values.extend(_filled(values, False))
    elif isinstance(present, int):
        column.int64s.values.extend(_filled(values, 0))
    elif isinstance(present, float):
        column.doubles.values.extend(_filled(values, 0.0))
    elif isinstance(present, str):
        column.strings.values.extend(_filled(values, ""))
    else:
        lists = list(_filled(values, []))
        column.string_lists.values.extend(text for texts in lists for text in texts)
        column.string_lists.lengths.extend(len(texts) for texts in lists)
    return column


def read_reply(reply: Any, rows: int) -> NDArray[np.float64]:
    """(ctr, lower, upper) of each candidate, float64 [rows, 3]. Raises DemoError for an incomplete reply."""
    if len(reply.predictions) != rows:
        raise DemoError(f"{len(reply.predictions)} predictions for {rows} candidates")
    for index, prediction in enumerate(reply.predictions):
        if prediction.HasField("error"):
            raise DemoError(f"candidate {index}: {prediction.error.field}: {prediction.error.reason}")
        if not prediction.HasField("ctr_lower"):
            raise DemoError(f"candidate {index} has no interval; the demo needs a model with `logit_variance`")
    return np.array([(p.ctr, p.ctr_lower, p.ctr_upper) for p in reply.predictions])


def _columns(stubs: Stubs, features: Mapping[str, Sequence[Any]]) -> list[Any]:
    return [
        build_column(stubs, name, values)
        for name, values in features.items()
        if any(value is not None for value in values)
    ]


def _filled(values: Sequence[Any], blank: Any) -> Iterable[Any]:
    return (blank if value is None else value for value in values)
