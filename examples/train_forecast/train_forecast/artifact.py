"""Writes a model version: one directory that holds everything the server needs and nothing else.

The bytes depend on data and seed only: no time, no random id, fixed order of keys and files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from train_forecast import onnx_graph
from train_forecast.nhits import Nhits
from train_forecast.windows import MIN_VALUES

CONTRACT_VERSION = 1
SPEC_FILE = "forecast_spec.json"
RELATIVE_TOLERANCE = 1e-4


class ArtifactError(Exception):
    """The directory breaks the contract; the message says where."""


@dataclass(frozen=True)
class Example:
    """A series' last values, oldest first, NaN where one is missing."""

    note: str
    context: Sequence[float]


def write(directory: Path, name: str, frequency: str, model: Nhits, examples: Sequence[Example]) -> float:
    """Writes beside `directory`, checks what lies on disk, and only then replaces `directory`.

    Returns the greatest difference between the graph and the network that was trained, as a share of an example's
    greatest value.
    """
    if directory.exists() and any(directory.iterdir()) and not (directory / SPEC_FILE).exists():
        raise FileExistsError(f"{directory} holds something other than a forecaster; choose another folder")
    draft = directory.with_name(directory.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    graph = onnx_graph.build(model).SerializeToString(deterministic=True)
    (draft / "model.onnx").write_bytes(graph)
    (draft / "MLmodel").write_text(_mlmodel(), encoding="utf-8")
    _write_golden(draft / "golden.jsonl", session(draft / "model.onnx"), model.shape.context, examples)
    files = sorted(path.name for path in draft.iterdir())
    spec = {
        "contract_version": CONTRACT_VERSION,
        "model": {
            "name": name,
            "kind": "forecast",
            "file": "model.onnx",
            "opset": onnx_graph.OPSET,
            "ir_version": onnx_graph.IR_VERSION,
        },
        "frequency": frequency,
        "context_length": model.shape.context,
        "horizon": model.shape.horizon,
        "quantiles": list(model.shape.quantiles),
        "missing": {"policy": "nan", "min_values": MIN_VALUES},
        "golden": {"file": "golden.jsonl", "relative_tolerance": RELATIVE_TOLERANCE},
        "files_sha256": {file: hashlib.sha256((draft / file).read_bytes()).hexdigest() for file in files},
    }
    (draft / SPEC_FILE).write_text(json.dumps(spec, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    worst = check(draft, model)
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)
    return worst


def check(directory: Path, model: Nhits) -> float:
    """Holds the graph on disk against the network that was trained, and the worked examples against both, alone and
    as one batch. Raises ArtifactError at the first that differs; returns the greatest difference."""
    spec = json.loads((directory / SPEC_FILE).read_text(encoding="utf-8"))
    golden = [json.loads(line) for line in (directory / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    windows = np.array([window(row["context"], spec["context_length"]) for row in golden])
    wanted = np.array([row["quantiles"] for row in golden])
    runner = session(directory / spec["model"]["file"])
    alone = np.concatenate([run(runner, windows[i : i + 1]) for i in range(len(windows))])
    largest = np.abs(wanted).max(axis=(1, 2), keepdims=True)
    worst = 0.0
    for way, got in (("alone", alone), ("as one batch", run(runner, windows)), ("trained", model.forecast(windows))):
        difference = float((np.abs(got - wanted) / largest).max())
        if not difference <= spec["golden"]["relative_tolerance"]:
            raise ArtifactError(f"{way}: an example differs by {difference:.1e} of its greatest value")
        worst = max(worst, difference)
    return worst


def session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(runner: onnxruntime.InferenceSession, windows: np.ndarray) -> np.ndarray:
    """Quantiles [rows, horizon, quantiles] of windows [rows, context]."""
    (quantiles,) = runner.run(["quantiles"], {"context": windows.astype(np.float32)})
    return quantiles


def window(context: Sequence[float | None], length: int) -> np.ndarray:
    """What the server makes of a request's values: the last ones, NaN where there is none."""
    values = [np.nan if value is None else value for value in context][-length:]
    return np.array([np.nan] * (length - len(values)) + values, float)


def _write_golden(path: Path, runner: onnxruntime.InferenceSession, length: int, examples: Sequence[Example]) -> None:
    lines = []
    for example in examples:
        context = [None if np.isnan(value) else float(value) for value in example.context]
        quantiles = run(runner, window(context, length)[None])[0]
        row: dict[str, Any] = {
            "note": example.note,
            "context": context,
            "quantiles": [[float(f"{value:.9g}") for value in step] for step in quantiles],
        }
        lines.append(json.dumps(row, allow_nan=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _mlmodel() -> str:
    """What MLflow needs to see an ONNX model; a registered version gets MLflow's own file instead."""
    return (
        "flavors:\n"
        "  onnx:\n"
        "    data: model.onnx\n"
        f"    onnx_version: {onnx.__version__}\n"
        "metadata:\n"
        f'  aibuyer_contract: "{CONTRACT_VERSION}"\n'
    )
