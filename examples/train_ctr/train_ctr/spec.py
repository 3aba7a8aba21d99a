"""Builds `feature_spec.json`: vocabularies, table rows, slots and transform parameters from training rows.

Only training rows are looked at: a vocabulary or a mean taken over all data would leak held-out rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train_ctr.encoder import apply_transform
from train_ctr.hashing import SCHEME
from train_ctr.layout import FIRST_VALUE_ROW

OPSET = 17
IR_VERSION = 8
CONTRACT_VERSION = 1


@dataclass(frozen=True)
class Vocabulary:
    """One of the values seen in training."""

    name: str


@dataclass(frozen=True)
class HashedTokens:
    """Up to `max_values` hashed values, pooled by their mean."""

    name: str
    buckets: int
    max_values: int


@dataclass(frozen=True)
class Number:
    """A dense column, standardised, after log1p where it is a count.

    `source` says where the server gets it from; without one it comes with the request, under its name.
    """

    name: str
    is_count: bool = False
    source: Mapping[str, Any] | None = None


FieldPlan = Vocabulary | HashedTokens | Number


@dataclass(frozen=True)
class Built:
    """A spec without `files_sha256`, and the vocabularies it names, by file."""

    spec: dict[str, Any]
    vocabularies: dict[str, list[str]]


def build(model_name: str, unit: str, plan: Sequence[FieldPlan], rows: Sequence[Mapping[str, Any]]) -> Built:
    """Fixes every parameter of the encoder from the training `rows`."""
    fields: list[dict[str, Any]] = []
    vocabularies: dict[str, list[str]] = {}
    offset = slot = column = 0
    for item in plan:
        field: dict[str, Any] = {"name": item.name, "source": {"kind": "request", "key": item.name}}
        match item:
            case Number():
                field["source"] = item.source or field["source"]
                field |= {"kind": "numeric", "column": column} | _numeric(item, rows)
                column += 1
            case Vocabulary():
                file = f"vocab/{item.name}.jsonl"
                vocabularies[file] = sorted({row[item.name] for row in rows if row[item.name]})
                count = FIRST_VALUE_ROW + len(vocabularies[file])
                field |= {
                    "kind": "categorical",
                    "encoding": {"type": "vocabulary", "file": file},
                    "normalize": [],
                    "row_offset": offset,
                    "rows": count,
                    "slots": [slot],
                    "missing": "row_0",
                    "oov": "row_1",
                }
                offset, slot = offset + count, slot + 1
            case HashedTokens():
                count = FIRST_VALUE_ROW + item.buckets
                field |= {
                    "kind": "categorical",
                    "encoding": {"type": "hash", "scheme": SCHEME, "buckets": item.buckets},
                    "normalize": [],
                    "row_offset": offset,
                    "rows": count,
                    "slots": list(range(slot, slot + item.max_values)),
                    "multi": {"max_values": item.max_values, "truncate": "keep_first", "pooling": "masked_mean"},
                    "missing": "row_0",
                }
                offset, slot = offset + count, slot + item.max_values
        fields.append(field)
    return Built(_document(model_name, unit, fields, offset, slot, column), vocabularies)


def _numeric(item: Number, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    raw = [float(row[item.name]) for row in rows if row[item.name] is not None]
    transforms: list[dict[str, Any]] = [{"op": "log1p"}] if item.is_count else []
    values = raw
    for step in transforms:
        values = [apply_transform(step, x) for x in values]
    mean = statistics.fmean(values)
    # A constant column has no scale; 1 keeps it at zero instead of dividing by zero.
    std = statistics.pstdev(values, mean) or 1.0
    transforms.append({"op": "standardize", "mean": mean, "std": std})
    return {"default": statistics.fmean(raw), "transforms": transforms}


def _document(
    model_name: str, unit: str, fields: list[dict[str, Any]], table_rows: int, slots: int, columns: int
) -> dict[str, Any]:
    return {
        "contract_version": CONTRACT_VERSION,
        "model": {
            "name": model_name,
            "kind": "ctr",
            "file": "model.onnx",
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "inputs": {
                "ids": {"dtype": "int64", "shape": ["batch", slots]},
                "dense": {"dtype": "float32", "shape": ["batch", columns]},
            },
            "outputs": {
                "logit": {"dtype": "float32", "shape": ["batch"]},
                "logit_variance": {"dtype": "float32", "shape": ["batch"]},
            },
        },
        "hash": {
            "scheme": SCHEME,
            "algorithm": "xxh3_64",
            "seed": 0,
            "message": "utf8(field) || 0x1F || utf8(value)",
            "row": "row_offset + 2 + (hash mod buckets), unsigned 64-bit",
        },
        "table_rows": table_rows,
        "fields": fields,
        "interval": {
            "method": "id-variance+tau2",
            "unit": unit,
            "default_level": 0.9,
            "calibration": "calibration.json",
        },
        "golden": {"file": "golden.jsonl", "logit_abs_tol": 1e-4, "variance_rel_tol": 1e-3},
    }
