"""What each version must answer to a fixed set of requests, computed in process from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from demo_ctr.client import build_request
from demo_ctr.stubs import Stubs
from numpy.typing import NDArray
from train_ctr.encoder import Encoder
from train_ctr.interval import ctr_interval
from train_ctr.session import Session

from demo_mlflow import variants

# Relative, of a rate. Batches of another size add up in another order; versions here differ by more than 5 %.
TOLERANCE = 1e-4
LEVEL = 0.9

Row = Mapping[str, Any]


def questions(source: Path) -> list[list[Row]]:
    """The golden examples of a version: each by itself, and the ordinary ones as the candidates of one request."""
    rows = [inputs for _, inputs in variants.read(source).golden]
    together = [{name: row.get(name) for name in rows[0]} for row in rows[:6]]
    return [[row] for row in rows] + [together]


def requests(stubs: Stubs, model: str, rows: Sequence[Sequence[Row]]) -> list[bytes]:
    """The same, as bytes of gRPC requests to the model's default alias."""
    return [build_request(stubs, model, candidates, context=()).SerializeToString() for candidates in rows]


def answers(directory: Path, rows: Sequence[Sequence[Row]]) -> list[NDArray[np.float64]]:
    """Rate, lower and upper bound of each candidate of each request, float64 [candidates, 3]."""
    encoder, session = Encoder.from_directory(directory), Session(directory / "model.onnx")
    found = []
    for candidates in rows:
        logit, variance = session.run(*encoder.encode(candidates))
        found.append(np.stack(ctr_interval(logit.astype(float), variance, LEVEL), axis=1))
    return found
