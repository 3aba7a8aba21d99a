"""Writes a CTR model in the shape of Criteo's data, for load tests: random weights, real sizes.

13 numbers, 26 hashed ids, embeddings of 16, hidden layers of 400-400-400: 492k multiply-adds a row, and a
table of a million rows (72 MB). What it predicts means nothing; what it costs is what a production DeepFM
costs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from train_ctr import artifact, onnx_graph
from train_ctr.deepfm import DeepFM
from train_ctr.hashing import SCHEME
from train_ctr.layout import FIRST_VALUE_ROW, TableLayout
from train_ctr.spec import Built, Number, build

NAME = "ctr-criteo-shape"
NUMBERS, IDS, BUCKETS = 13, 26, 38_460
FACTORS, HIDDEN = 16, (400, 400, 400)
BASE_RATE_LOGIT = -3.0


def spec() -> dict[str, Any]:
    """Numbers `i1`..`i13` (counts) and ids `c1`..`c26`, one hashed value each."""
    plan = [Number(f"i{i + 1}", is_count=True) for i in range(NUMBERS)]
    rows = [{item.name: float(value) for item in plan} for value in (0, 1, 3, 10, 100)]
    document = build(NAME, "impression", plan, rows).spec
    count = FIRST_VALUE_ROW + BUCKETS
    for slot in range(IDS):
        document["fields"].append(
            {
                "name": f"c{slot + 1}",
                "source": {"kind": "request", "key": f"c{slot + 1}"},
                "kind": "categorical",
                "encoding": {"type": "hash", "scheme": SCHEME, "buckets": BUCKETS},
                "normalize": [],
                "row_offset": slot * count,
                "rows": count,
                "slots": [slot],
                "missing": "row_0",
            }
        )
    document["table_rows"] = IDS * count
    document["model"]["inputs"]["ids"]["shape"] = ["batch", IDS]
    return document


def main() -> None:
    out = Path(sys.argv[1]) / NAME / "1"
    rng = np.random.default_rng(7)
    document = spec()
    layout = TableLayout.from_spec(document)
    model = DeepFM.initialise(layout, FACTORS, HIDDEN, BASE_RATE_LOGIT, rng)
    model.parameters["table"][:, :FACTORS] *= 5
    model.parameters["table"][layout.missing_rows] = 0
    variance = rng.uniform(0.001, 0.01, layout.table_rows)
    calibration = {
        "method": "none: random weights for load tests",
        "a": 1.0,
        "lam": 1.0,
        "tau2": 0.01,
        "oov_variance": {},
        "coverage_test": None,
        "coverage_cold": None,
        "units": {},
        "sampling_rate_negatives": 1.0,
    }
    golden = [
        ("every feature missing", {}),
        (
            "every feature",
            {f"i{i + 1}": i for i in range(NUMBERS)} | {f"c{i + 1}": f"v{i}" for i in range(IDS)},
        ),
    ]
    graph = onnx_graph.build(model, variance, tau2=0.01)
    artifact.write(out, artifact.Contents(Built(document, {}), graph, calibration, golden))
    print(f"{out}: {(out / 'model.onnx').stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
