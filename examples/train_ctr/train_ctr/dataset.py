"""What the trainer needs of any data: rows in named parts, and how their fields become tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_ctr.spec import FieldPlan
from train_ctr.training import Settings


class DataError(Exception):
    """The data cannot be had or read; the message says what and where."""


@dataclass(frozen=True)
class Part:
    """Rows of one part of the split. `unit` and `cluster` are row -> index, from 0.

    `inputs` are raw requests, keyed by feature. A unit is what has one true CTR (a creative in its
    context); units of one cluster (a campaign, a test) share part of their error.
    """

    inputs: Sequence[Mapping[str, Any]]
    clicks: NDArray[np.float64]
    impressions: NDArray[np.float64]
    unit: NDArray[np.int64]
    cluster: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """`calibration_cold` and `cold_test` hold units whose `oov_fields` were never seen; either may be empty.

    `golden` are made-up requests, each with a note, that the artifact carries as examples.
    """

    model_name: str
    unit_name: str
    plan: Sequence[FieldPlan]
    oov_fields: Sequence[str]
    settings: Settings
    train: Part
    calibration: Part
    calibration_cold: Part
    test: Part
    cold_test: Part
    golden: Sequence[tuple[str, Mapping[str, Any]]]


def indices(keys: Sequence[Any]) -> NDArray[np.int64]:
    """Numbers keys from 0 in order of first appearance."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
