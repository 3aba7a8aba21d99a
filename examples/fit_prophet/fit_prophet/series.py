"""One series from a CSV: its dates and values, and the part that is kept from the fit."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from demo_ctr.errors import DemoError
from numpy.typing import NDArray

FEWEST_ROWS = 100


@dataclass(frozen=True)
class Series:
    """`dates` datetime64[us] ascending, `values` float64, both [rows]."""

    name: str
    dates: NDArray[np.datetime64]
    values: NDArray[np.float64]

    def split(self, held_out: float) -> tuple[Series, Series]:
        """The first part, and the last `held_out` (a share) of the rows."""
        at = len(self.values) - max(1, round(held_out * len(self.values)))
        return self._rows(slice(None, at)), self._rows(slice(at, None))

    def _rows(self, rows: slice) -> Series:
        return Series(self.name, self.dates[rows], self.values[rows])


def read(path: Path, name: str = "") -> Series:
    """Two columns under a header, date and value, such as `timestamp,value` or `ds,y`. Named after the file, if not
    by `name`."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
    except OSError as error:
        raise DemoError(f"cannot read {path}: {error.strerror}") from error
    dates, values = [], []
    for number, row in enumerate(rows, start=2):
        try:
            date, value = row
            dates.append(np.datetime64(date.strip(), "us"))
            values.append(float(value))
        except ValueError as error:
            raise DemoError(f"{path}, line {number}: expected a date and a number, found {row}") from error
        if not np.isfinite(values[-1]):
            raise DemoError(f"{path}, line {number}: the value is {value}; leave such lines out")
    if len(dates) < FEWEST_ROWS:
        raise DemoError(f"{path} has {len(dates)} rows; a fit and a comparison need {FEWEST_ROWS}")
    for number, (before, after) in enumerate(pairwise(dates), start=3):
        if after <= before:
            raise DemoError(f"{path}, line {number}: {after} does not follow {before}; dates must ascend")
    return Series(name or path.stem, np.array(dates), np.array(values))
