"""Opens a model version from disk and checks it in the order the server does at load time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from train_ctr.encoder import Encoder
from train_ctr.interval import ctr_interval
from train_ctr.session import Session
from train_ctr.spec import CONTRACT_VERSION

DENSE_TOLERANCE = 1e-6
BOUND_RELATIVE_TOLERANCE = 1e-9


class ArtifactError(Exception):
    """The directory breaks the artifact contract; the message says where."""


@dataclass(frozen=True)
class CheckReport:
    """What was checked, and the greatest differences from the stored outputs."""

    files: int
    golden_rows: int
    logit_difference: float
    variance_relative_difference: float


def check_artifact(directory: Path) -> CheckReport:
    """Raises ArtifactError at the first broken promise."""
    spec = json.loads((directory / "feature_spec.json").read_text(encoding="utf-8"))
    _check_files(directory, spec["files_sha256"])
    _require(spec["contract_version"] == CONTRACT_VERSION, f"contract version {spec['contract_version']} is not known")
    _check_model(directory, spec)
    _check_rows(spec)
    golden = [
        json.loads(line)
        for line in (directory / spec["golden"]["file"]).read_text(encoding="utf-8").split("\n")
        if line
    ]
    ids, dense = _check_encoding(directory, golden)
    _require(int(ids.max()) < spec["table_rows"], f"id {ids.max()} lies beyond the table")
    logit, variance = _check_outputs(directory, spec, golden, ids, dense)
    return CheckReport(len(spec["files_sha256"]), len(golden), logit, variance)


def _check_files(directory: Path, expected: Mapping[str, str]) -> None:
    present = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    unlisted, absent = present - expected.keys() - {"feature_spec.json"}, expected.keys() - present
    _require(not absent, f"files are missing: {sorted(absent)}")
    _require(not unlisted, f"files have no hash in the spec: {sorted(unlisted)}")
    for file, digest in expected.items():
        found = hashlib.sha256((directory / file).read_bytes()).hexdigest()
        _require(found == digest, f"{file} has SHA-256 {found}, the spec says {digest}")


def _check_model(directory: Path, spec: Mapping[str, Any]) -> None:
    path = directory / spec["model"]["file"]
    model = onnx.load_model(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    external = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    _require(not external, f"{path.name} keeps weights outside itself: {external}")
    _require(model.ir_version == spec["model"]["ir_version"], f"IR version is {model.ir_version}")
    table = next(t for t in model.graph.initializer if t.name == "table")
    _require(table.dims[0] == spec["table_rows"], f"the table has {table.dims[0]} rows, not {spec['table_rows']}")
    signature = Session(path).signature()
    for side in ("inputs", "outputs"):
        _require(
            signature[side] == spec["model"][side],
            f"the session's {side} are {signature[side]}, the spec says {spec['model'][side]}",
        )


def _check_rows(spec: Mapping[str, Any]) -> None:
    end = 0
    for field in sorted((f for f in spec["fields"] if "row_offset" in f), key=lambda f: f["row_offset"]):
        _require(field["row_offset"] >= end, f"rows of field {field['name']!r} overlap the field before")
        end = field["row_offset"] + field["rows"]
    _require(end <= spec["table_rows"], f"fields reach row {end} of a table of {spec['table_rows']}")
    slots = sorted(slot for field in spec["fields"] for slot in field.get("slots", ()))
    _require(slots == list(range(len(slots))), "slots are not 0, 1, 2, ... each exactly once")


def _check_encoding(directory: Path, golden: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    ids, dense = Encoder.from_directory(directory).encode([row["inputs"] for row in golden])
    for index, row in enumerate(golden):
        name = f"golden row {index} ({row.get('note', 'no note')})"
        _require(ids[index].tolist() == row["ids"], f"{name}: ids are {ids[index].tolist()}")
        distance = float(np.abs(dense[index].astype(float) - row["dense"]).max(initial=0))
        _require(distance <= DENSE_TOLERANCE, f"{name}: dense differs by {distance}")
    return ids, dense


def _check_outputs(
    directory: Path, spec: Mapping[str, Any], golden: list[dict[str, Any]], ids: np.ndarray, dense: np.ndarray
) -> tuple[float, float]:
    session = Session(directory / spec["model"]["file"])
    single = [session.run(ids[i : i + 1], dense[i : i + 1]) for i in range(len(ids))]
    one_by_one = tuple(np.concatenate(parts) for parts in zip(*single, strict=True))
    wanted_logit = np.array([row["logit"] for row in golden])
    wanted_variance = np.array([row["logit_variance"] for row in golden])
    logit_worst = variance_worst = 0.0
    for way, (logit, variance) in (("one by one", one_by_one), ("as one batch", session.run(ids, dense))):
        _require(bool(np.isfinite(logit).all() and np.isfinite(variance).all()), f"{way}: an output is not finite")
        logit_off = float(np.abs(logit - wanted_logit).max())
        variance_off = float((np.abs(variance - wanted_variance) / wanted_variance).max())
        tolerances = spec["golden"]
        _require(logit_off <= tolerances["logit_abs_tol"], f"{way}: logit differs by {logit_off}")
        _require(variance_off <= tolerances["variance_rel_tol"], f"{way}: variance differs by {variance_off:.1e}")
        logit_worst, variance_worst = max(logit_worst, logit_off), max(variance_worst, variance_off)
    bounds = ctr_interval(wanted_logit, wanted_variance, 0.9)
    for key, computed in zip(("ctr", "ctr_lower_90", "ctr_upper_90"), bounds, strict=True):
        stored = np.array([row[key] for row in golden])
        _require(bool(np.allclose(computed, stored, rtol=BOUND_RELATIVE_TOLERANCE, atol=0)), f"{key} differs")
    return logit_worst, variance_worst


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ArtifactError(problem)
