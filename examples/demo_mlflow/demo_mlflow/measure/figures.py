"""Samples and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Figures = dict[str, object]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Least, median, p99 and greatest, in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "count": len(seconds),
        "min_ms": round(1000 * min(seconds), 1),
        "p50_ms": round(1000 * float(p50), 1),
        "p99_ms": round(1000 * float(p99), 1),
        "max_ms": round(1000 * max(seconds), 1),
    }


def told(found: dict[str, float]) -> str:
    """One line of it."""
    return (
        f"p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms "
        f"({found['min_ms']:.0f} to {found['max_ms']:.0f} ms, {found['count']} times)"
    )


def quantiles(seconds: Sequence[float], groups: int) -> list[tuple[float, float]]:
    """p50 and p99 in milliseconds of each of so many consecutive groups: how far one run's own figures spread."""
    parts = np.array_split(np.asarray(seconds), groups)
    return [tuple(float(q) for q in 1000 * np.percentile(part, [50, 99])) for part in parts]  # type: ignore[misc]
