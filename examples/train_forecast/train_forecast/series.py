"""Hourly series from files of `timestamp,value`, as the Numenta Anomaly Benchmark has them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HOUR = 3600
TRAINING, VALIDATION = 0.7, 0.8
"""Shares of a series up to which it is for training, and for choosing when to stop; the rest is for testing."""


@dataclass(frozen=True)
class Series:
    """`values` float64 [hours], NaN where an hour has none; `start` in seconds since 1970, on the series' own clock."""

    name: str
    group: str
    start: int
    values: NDArray[np.float64]

    def cut(self, share: float) -> int:
        """The hour at which the share ends."""
        return int(len(self.values) * share)


def read_folder(folder: Path, shortest: int) -> list[Series]:
    """Every real series of `folder/real*/*.csv` of at least so many hours, sorted by name."""
    found = [read(path) for path in sorted(folder.glob("real*/*.csv"))]
    if not found:
        raise FileNotFoundError(f"{folder} has no real*/*.csv: name the folder `data` of the benchmark")
    return [series for series in found if len(series.values) >= shortest]


def read(path: Path) -> Series:
    """One file; values of the same hour are averaged."""
    sums: dict[int, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["timestamp"] + "+00:00")
            sums.setdefault(int(at.timestamp()) // HOUR, []).append(float(row["value"]))
    first, last = min(sums), max(sums)
    values = np.full(last - first + 1, np.nan)
    for hour, parts in sums.items():
        values[hour - first] = np.mean(parts)
    return Series(path.stem, path.parent.name, first * HOUR, values)
