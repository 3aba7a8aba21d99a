"""Writes a model version: one directory that holds everything the server needs and nothing else.

The bytes depend on data and seed only: no time, no random id, fixed order of keys and files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from train_ctr import profile
from train_ctr.encoder import Encoder
from train_ctr.interval import ctr_interval
from train_ctr.self_check import CheckReport, check_artifact
from train_ctr.session import Session
from train_ctr.spec import CONTRACT_VERSION, Built

SPEC_FILE = "feature_spec.json"
GOLDEN_LEVEL = 0.9


@dataclass(frozen=True)
class Contents:
    """Everything that goes into a version. `golden` are (note, raw request); a version may do without `profile`."""

    built: Built
    model: onnx.ModelProto
    calibration: Mapping[str, Any]
    golden: Sequence[tuple[str, Mapping[str, Any]]]
    profile: Mapping[str, Any] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """The spec without `files_sha256`."""
        return self.built.spec if self.profile is None else self.built.spec | {"profile": profile.FILE}


def write(directory: Path, contents: Contents) -> CheckReport:
    """Writes beside `directory`, checks what lies on disk, and only then replaces `directory`."""
    if directory.exists() and any(directory.iterdir()) and not (directory / SPEC_FILE).exists():
        raise FileExistsError(f"{directory} holds something other than a model version; choose another folder")
    draft = directory.with_name(directory.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _write_files(draft, contents)
    seal(draft, contents.spec)
    report = check_artifact(draft)
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)
    return report


def seal(directory: Path, spec: Mapping[str, Any]) -> None:
    """Writes the spec with the SHA-256 of every other file of the directory."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != SPEC_FILE)
    hashes = {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    _write_json(directory / SPEC_FILE, dict(spec) | {"files_sha256": hashes})


def _write_files(directory: Path, contents: Contents) -> None:
    model = contents.model.SerializeToString(deterministic=True)
    (directory / "model.onnx").write_bytes(model)
    (directory / "MLmodel").write_text(_mlmodel(), encoding="utf-8")
    (directory / "vocab").mkdir()
    for file, values in contents.built.vocabularies.items():
        _write_lines(directory / file, values)
    _write_json(directory / "calibration.json", contents.calibration)
    if contents.profile is not None:
        _write_json(directory / profile.FILE, contents.profile)
    encoder = Encoder(contents.built.spec, contents.built.vocabularies)
    session = Session(model)
    _write_lines(
        directory / "golden.jsonl",
        [_golden_row(encoder, session, note, request) for note, request in contents.golden],
    )


def _golden_row(encoder: Encoder, session: Session, note: str, request: Mapping[str, Any]) -> dict[str, Any]:
    ids, dense = encoder.encode([request])
    logit, variance = session.run(ids, dense)
    ctr, lower, upper = ctr_interval(logit, variance, GOLDEN_LEVEL)
    return {
        "note": note,
        "inputs": dict(request),
        "ids": ids[0].tolist(),
        "dense": dense[0].astype(float).tolist(),
        "logit": float(logit[0]),
        "logit_variance": float(variance[0]),
        "ctr": float(ctr[0]),
        "ctr_lower_90": float(lower[0]),
        "ctr_upper_90": float(upper[0]),
    }


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


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def _write_lines(path: Path, values: Sequence[Any]) -> None:
    text = "".join(json.dumps(value, allow_nan=False) + "\n" for value in values)
    path.write_text(text, encoding="utf-8", newline="\n")
