"""Turns raw requests into `ids` and `dense`, driven by `feature_spec.json` alone.

The trainer encodes its training data with this code, the golden rows are encoded with it, and the
server has its own implementation of the same rules. Text is never split here: tokens arrive as lists.
All arithmetic is float64 with one cast to float32 at the end.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_ctr.hashing import hash64, normalize
from train_ctr.layout import FIRST_VALUE_ROW, MISSING_ROW, UNKNOWN_ROW

FLOAT32_MAX = float(np.finfo(np.float32).max)


class EncodeError(ValueError):
    """A value that the feature spec does not accept; `field` says which."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"feature {field!r}: {reason}")
        self.field = field


class Encoder:
    """All fields of one spec. `vocabularies` maps a vocabulary file's name to its values in order."""

    def __init__(self, spec: Mapping[str, Any], vocabularies: Mapping[str, Sequence[str]]) -> None:
        self._fields = [_field(field, vocabularies) for field in spec["fields"]]
        self._slots = sum(len(field.get("slots", ())) for field in spec["fields"])
        self._columns = sum("column" in field for field in spec["fields"])

    @classmethod
    def from_directory(cls, directory: Path) -> Encoder:
        """Reads `feature_spec.json` and the vocabularies of a model version."""
        spec = json.loads((directory / "feature_spec.json").read_text(encoding="utf-8"))
        return cls(spec, read_vocabularies(spec, directory))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns `ids` int64 [rows, slots] and `dense` float32 [rows, columns].

        A key that is absent or None is missing. Raises EncodeError for a value the spec refuses.
        """
        ids = np.zeros((len(rows), self._slots), np.int64)
        dense = np.zeros((len(rows), self._columns), np.float64)
        for index, row in enumerate(rows):
            for field in self._fields:
                field.put(row.get(field.key), ids[index], dense[index])
        return ids, dense.astype(np.float32)


def read_vocabularies(spec: Mapping[str, Any], directory: Path) -> dict[str, list[str]]:
    """One JSON string a line; line i is row 2 + i of the field."""
    encodings = (field.get("encoding", {}) for field in spec["fields"])
    files = [encoding["file"] for encoding in encodings if encoding.get("type") == "vocabulary"]
    return {
        file: [json.loads(line) for line in (directory / file).read_text(encoding="utf-8").split("\n") if line]
        for file in files
    }


def input_key(field: Mapping[str, Any]) -> str:
    """The name a raw value is found under: the request key, or the field's own name for stored features."""
    source = field["source"]
    return source["key"] if source["kind"] == "request" else field["name"]


def _field(field: Mapping[str, Any], vocabularies: Mapping[str, Sequence[str]]) -> _Categorical | _Dense | _Bucketized:
    if field["kind"] == "categorical":
        return _Categorical(field, vocabularies)
    return _Dense(field) if "column" in field else _Bucketized(field)


class _Categorical:
    def __init__(self, field: Mapping[str, Any], vocabularies: Mapping[str, Sequence[str]]) -> None:
        self.name: str = field["name"]
        self.key = input_key(field)
        self._slots = list(field["slots"])
        self._offset: int = field["row_offset"]
        self._normalize: Sequence[str] = field["normalize"]
        self._refuses_missing = field["missing"] == "reject"
        self._oov: str | None = field.get("oov")
        self._is_multi = "multi" in field
        encoding = field["encoding"]
        if encoding["type"] == "hash":
            self._buckets: int | None = encoding["buckets"]
            self._known: dict[bytes, int] = {}
        else:
            self._buckets = None
            values = vocabularies[encoding["file"]]
            self._known = {value.encode("utf-8"): FIRST_VALUE_ROW + i for i, value in enumerate(values)}

    def put(self, value: Any, ids: np.ndarray, dense: np.ndarray) -> None:
        """Fills the field's slots. A blank value in a list keeps its place as a missing row."""
        texts = [self._text(item) for item in self._items(value)[: len(self._slots)]]
        if self._refuses_missing and not any(texts):
            raise EncodeError(self.name, "has no value, and the model requires one")
        rows = [self._row(text) if text else MISSING_ROW for text in texts]
        rows += [MISSING_ROW] * (len(self._slots) - len(rows))
        ids[self._slots] = [self._offset + row for row in rows]

    def _items(self, value: Any) -> Sequence[Any]:
        """The value as a list: of one for a single-valued field, of texts for a multi-valued one."""
        if not self._is_multi:
            return [value]
        items = value if isinstance(value, list | tuple) else [] if value is None else [value]
        for item in items:
            if not isinstance(item, str):
                raise EncodeError(self.name, f"takes a list of texts, which {item!r} is not")
        return items

    def _text(self, value: Any) -> bytes:
        """Canonical normalised UTF-8; empty means missing."""
        if value is None:
            return b""
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int):
            value = str(value)
        elif not isinstance(value, str):
            raise EncodeError(self.name, f"takes one text, whole number or truth value, not {value!r}")
        try:
            return normalize(value.encode("utf-8"), self._normalize)
        except UnicodeEncodeError as error:
            raise EncodeError(self.name, "is not valid UTF-8 text") from error

    def _row(self, text: bytes) -> int:
        if self._buckets is not None:
            return FIRST_VALUE_ROW + hash64(self.name, text) % self._buckets
        row = self._known.get(text)
        if row is not None:
            return row
        if self._oov == "reject":
            raise EncodeError(self.name, f"{text.decode('utf-8')!r} is not in the model's vocabulary")
        return MISSING_ROW if self._oov == "row_0" else UNKNOWN_ROW


class _Numeric:
    def __init__(self, field: Mapping[str, Any], transforms: Sequence[Mapping[str, Any]]) -> None:
        self.name: str = field["name"]
        self.key = input_key(field)
        self._default: float | None = field.get("default")
        self._transforms = transforms

    def _transformed(self, value: Any) -> float | None:
        """The value or its default after the transforms, in float64; None where there is neither."""
        number = self._number(value)
        return None if number is None else self._transform(number)

    def _number(self, value: Any) -> float | None:
        if value is None:
            return self._default
        if not isinstance(value, bool | int | float):
            raise EncodeError(self.name, f"takes a number or a truth value, not {value!r}")
        number = float(value)
        if not math.isfinite(number):
            raise EncodeError(self.name, f"{value!r} is not finite; leave a missing value out instead")
        return number

    def _transform(self, x: float) -> float:
        for step in self._transforms:
            try:
                x = apply_transform(step, x)
            except ValueError as error:
                raise EncodeError(self.name, str(error)) from error
        return x


class _Dense(_Numeric):
    def __init__(self, field: Mapping[str, Any]) -> None:
        super().__init__(field, field["transforms"])
        self._column: int = field["column"]

    def put(self, value: Any, ids: np.ndarray, dense: np.ndarray) -> None:
        transformed = self._transformed(value)
        if transformed is None:
            raise EncodeError(self.name, "has no value, and the model has no default for it")
        if abs(transformed) > FLOAT32_MAX:
            raise EncodeError(self.name, f"{value!r} is out of float32's range after its transforms")
        dense[self._column] = transformed


class _Bucketized(_Numeric):
    """A number whose last transform is `bucketize`: bucket = number of boundaries <= x."""

    def __init__(self, field: Mapping[str, Any]) -> None:
        *transforms, last = field["transforms"]
        super().__init__(field, transforms)
        self._boundaries: Sequence[float] = last["boundaries"]
        self._slots = list(field["slots"])
        self._offset: int = field["row_offset"]
        self._refuses_missing = field["missing"] == "reject"

    def put(self, value: Any, ids: np.ndarray, dense: np.ndarray) -> None:
        transformed = self._transformed(value)
        if transformed is None and self._refuses_missing:
            raise EncodeError(self.name, "has no value, and the model requires one")
        row = MISSING_ROW
        if transformed is not None:
            row = FIRST_VALUE_ROW + bisect.bisect_right(self._boundaries, transformed)
        ids[self._slots] = self._offset + row


def apply_transform(step: Mapping[str, Any], x: float) -> float:
    """One arithmetic step, in float64. Raises ValueError where `x` is outside its domain."""
    match step["op"]:
        case "clip":
            return min(max(x, step["min"]), step["max"])
        case "log1p":
            if x < 0:
                raise ValueError(f"{x!r} is negative, which log1p does not accept")
            return math.log1p(x)
        case "standardize":
            return (x - step["mean"]) / step["std"]
        case other:
            raise ValueError(f"unknown transform {other!r}")
