"""Writes requests of real headline tests, one request a test, as files that ghz and aibuyer-loadtest read.

`upworthy.json` asks for all creatives of a test at once, `upworthy-single.json` for one creative a request.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train_ctr.upworthy import MODEL_NAME, Creative, read_creatives, request_of

TESTS, SINGLES = 64, 128
# Of a test, what its creatives share.
CONTEXT = ("test_id", "week")
LEAST_CREATIVES = 4


def column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A column in protobuf's JSON form; absent values are missing rows."""
    absent = [row for row, value in enumerate(values) if value is None]
    present = next(value for value in values if value is not None)
    if isinstance(present, list):
        words = [word for value in values for word in value]
        typed: dict[str, Any] = {"stringLists": {"values": words, "lengths": [len(value) for value in values]}}
    elif isinstance(present, str):
        typed = {"strings": {"values": [value or "" for value in values]}}
    else:
        typed = {"int64s": {"values": [value or 0 for value in values]}}
    return {"name": name, **typed} | ({"missing": absent} if absent else {})


def request(creatives: Sequence[Creative]) -> dict[str, Any]:
    rows = [request_of(creative) for creative in creatives]
    known = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return {
        "model": {"name": MODEL_NAME},
        "context": [column(name, [rows[0][name]]) for name in CONTEXT],
        "candidates": [column(name, [row[name] for row in rows]) for name in known if name not in CONTEXT],
        "candidateCount": len(rows),
    }


def write(path: Path, requests: Sequence[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(request, separators=(",", ":")) for request in requests)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(requests)} requests in {path}")


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items, evenly from first to last."""
    return [items[n * len(items) // count] for n in range(count)]


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    creatives = read_creatives(source)
    tests: dict[str, list[Creative]] = defaultdict(list)
    for creative in creatives:
        tests[creative.test_id].append(creative)
    large = [test for test in tests.values() if len(test) >= LEAST_CREATIVES]
    write(out / "upworthy.json", [request(test) for test in spaced(large, TESTS)])
    write(out / "upworthy-single.json", [request([creative]) for creative in spaced(creatives, SINGLES)])


if __name__ == "__main__":
    main()
