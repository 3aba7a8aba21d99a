"""`profile.json`: how the values of the training rows are distributed, to tell later what has moved.

Each row counts as often as it was shown, as it would when serving. A field with several values a row has no profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train_ctr.dataset import Part
from train_ctr.encoder import input_key

FILE = "profile.json"
GROUPS = 10
MOST_VALUES = 20


def of_training(spec: Mapping[str, Any], train: Part) -> dict[str, Any]:
    """The document for the fields of `spec`."""
    fields = {
        field["name"]: _field(field, [row.get(input_key(field)) for row in train.inputs], train.impressions)
        for field in spec["fields"]
        if "multi" not in field
    }
    return {"fields": fields}


def _field(field: Mapping[str, Any], values: Sequence[Any], weights: np.ndarray) -> dict[str, Any]:
    present = np.array([value is not None and value != "" for value in values])
    total = float(weights.sum())
    missing = float(weights[~present].sum()) / total
    shown = weights[present]
    if field["kind"] == "numeric":
        numbers = np.array([value for value, is_there in zip(values, present, strict=True) if is_there], np.float64)
        edges = _edges(numbers, shown)
        groups = np.bincount(np.searchsorted(edges, numbers, side="right"), shown, len(edges) + 1)
        return {
            "kind": "numeric",
            "edges": edges,
            "shares": [float(share) for share in groups / total],
            "missing": missing,
        }
    shares: dict[str, float] = {}
    for value, weight in zip((value for value in values if value is not None and value != ""), shown, strict=True):
        text = _text(value)
        shares[text] = shares.get(text, 0.0) + float(weight) / total
    frequent = sorted(shares, key=lambda text: (-shares[text], text))[:MOST_VALUES]
    known = {text: shares[text] for text in sorted(frequent)}
    # What is left of 1, but for rounding never below 0.
    other = max(0.0, 1.0 - missing - sum(known.values()))
    return {"kind": "categorical", "values": known, "other": other, "missing": missing}


def _edges(numbers: np.ndarray, weights: np.ndarray) -> list[float]:
    """Inner bounds of groups: each value of a few, else the deciles of the shown rows."""
    distinct = np.unique(numbers)
    if len(distinct) <= GROUPS:
        return [float(value) for value in distinct[1:]]
    order = np.argsort(numbers, kind="stable")
    reached = np.cumsum(weights[order])
    at = np.searchsorted(reached, reached[-1] * np.arange(1, GROUPS) / GROUPS)
    # The least value as an edge would leave nothing below it.
    return sorted({float(value) for value in numbers[order][at]} - {float(distinct[0])})


def _text(value: Any) -> str:
    """A category as the encoder takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
