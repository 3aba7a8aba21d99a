"""Where fields live in the one shared embedding table and in the columns of `ids`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING_ROW = 0
UNKNOWN_ROW = 1
FIRST_VALUE_ROW = 2


@dataclass(frozen=True)
class FieldRows:
    """One field of the table: `rows` rows from `offset`, read through columns `slots` of `ids`."""

    name: str
    offset: int
    rows: int
    slots: tuple[int, ...]

    @property
    def missing_row(self) -> int:
        return self.offset + MISSING_ROW

    @property
    def unknown_row(self) -> int:
        return self.offset + UNKNOWN_ROW

    @property
    def is_multi(self) -> bool:
        return len(self.slots) > 1


@dataclass(frozen=True)
class TableLayout:
    """Shapes that the model, the variance and the ONNX graph share."""

    fields: tuple[FieldRows, ...]
    table_rows: int
    dense_columns: int

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> TableLayout:
        tabular = [field for field in spec["fields"] if "row_offset" in field]
        fields = tuple(
            FieldRows(field["name"], field["row_offset"], field["rows"], tuple(field["slots"])) for field in tabular
        )
        return cls(fields, spec["table_rows"], sum("column" in field for field in spec["fields"]))

    @property
    def slots(self) -> int:
        return sum(len(field.slots) for field in self.fields)

    def field(self, name: str) -> FieldRows:
        return next(field for field in self.fields if field.name == name)

    @cached_property
    def missing_rows(self) -> NDArray[np.int64]:
        """Row 0 of each field, int64 [fields]."""
        return np.array([field.missing_row for field in self.fields], np.int64)

    @cached_property
    def membership(self) -> NDArray[np.float32]:
        """1 where a slot belongs to a field, float32 [fields, slots]."""
        matrix = np.zeros((len(self.fields), self.slots), np.float32)
        for index, field in enumerate(self.fields):
            matrix[index, list(field.slots)] = 1
        return matrix

    @cached_property
    def live(self) -> NDArray[np.float32]:
        """0 at each field's missing row, 1 elsewhere, float32 [table_rows]."""
        live = np.ones(self.table_rows, np.float32)
        live[self.missing_rows] = 0
        return live

    def inverse_counts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """1 / number of present values of each field (1 where none is), float32 [batch, fields]."""
        return 1 / np.maximum(self.live[ids] @ self.membership.T, np.float32(1))
