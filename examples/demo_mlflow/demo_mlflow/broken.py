"""Versions that must be refused, each with one fault. Hashes are sealed anew unless the fault is in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from train_ctr import artifact
from train_ctr.artifact import SPEC_FILE, seal

from demo_mlflow.variants import Tensors, read

MODEL = "model.onnx"
Fault = Callable[[Path], None]


def make(source: Path, directory: Path, fault: Fault) -> None:
    """A copy of `source` with `fault`."""
    shutil.copytree(source, directory)
    fault(directory)


def truncated(directory: Path) -> None:
    """The upload ended half way."""
    whole = (directory / MODEL).read_bytes()
    (directory / MODEL).write_bytes(whole[: len(whole) // 2])


def truncated_and_sealed(directory: Path) -> None:
    """As if the trainer itself had written half a model: the hashes are right."""
    truncated(directory)
    _seal(directory)


def missing_mlmodel(directory: Path) -> None:
    (directory / "MLmodel").unlink()
    _seal(directory)


def other_tensor_names(directory: Path) -> None:
    """The model does not give what its feature spec promises."""

    def rename(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "score"
        model.graph.node[-1].output[0] = "score"

    _edit(directory, rename)


def feature_dropped(directory: Path) -> None:
    """A sound version, but callers of the one that serves send a feature that it does not know."""
    contents = read(directory)
    spec, tensors = contents.built.spec, Tensors(contents.model)
    dropped = next(field for field in spec["fields"] if field.get("column") == 0)
    spec["fields"].remove(dropped)
    for field in spec["fields"]:
        if "column" in field:
            field["column"] -= 1
    shape = spec["model"]["inputs"]["dense"]["shape"]
    shape[1] -= 1
    tensors["dense_weight"] = tensors["dense_weight"][1:]
    # The dense columns are the last inputs of the first layer.
    weight = tensors["weight_0"]
    tensors["weight_0"] = np.delete(weight, len(weight) - shape[1] - 1, axis=0)
    (dense,) = (value for value in contents.model.graph.input if value.name == "dense")
    dense.type.tensor_type.shape.dim[1].dim_value = shape[1]
    golden = [(note, {k: v for k, v in row.items() if k != dropped["name"]}) for note, row in contents.golden]
    artifact.write(directory, artifact.Contents(contents.built, contents.model, contents.calibration, golden))


def not_a_number(directory: Path) -> None:
    """The last hashed row of the table, which no golden example uses, holds NaN."""

    def poison(model: onnx.ModelProto) -> None:
        tensors = Tensors(model)
        table = tensors["table"].copy()
        table[-1] = np.nan
        tensors["table"] = table

    _edit(directory, poison)


def golden_mismatch(directory: Path) -> None:
    """The weights are not those that the golden examples were made with."""

    def move(model: onnx.ModelProto) -> None:
        tensors = Tensors(model)
        tensors["out_bias"] = tensors["out_bias"] + np.float32(0.5)

    _edit(directory, move)


def external_data_outside(directory: Path) -> None:
    """A weight is said to lie in a file of the machine that loads the model."""

    def point_away(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "weight_0")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../../../../../../etc/hostname")

    _edit(directory, point_away)


def tensor_of_2_gb(directory: Path) -> None:
    """A weight of a few bytes that says it has 2 GB."""

    def lie(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "weight_0")
        tensor.dims[:] = [1 << 29, 1]

    _edit(directory, lie)


def message_of_2_gb(directory: Path) -> None:
    """The first field of the file says it is 2 GB long."""
    # Tag of field 7 (`graph`) with a length, then the length as a varint: 2^31 - 1.
    (directory / MODEL).write_bytes(b"\x3a\xff\xff\xff\xff\x07" + (directory / MODEL).read_bytes())
    _seal(directory)


# By the name that people read; the file that never ends needs a slow server, not another folder.
FAULTS: dict[str, Fault] = {
    "truncated file": truncated,
    "truncated file, hashes right": truncated_and_sealed,
    "missing MLmodel": missing_mlmodel,
    "wrong signature: not the spec's": other_tensor_names,
    "wrong signature: a feature is gone": feature_dropped,
    "NaN output": not_a_number,
    "golden mismatch": golden_mismatch,
    "external data outside the folder": external_data_outside,
    "2 GB lie: a tensor's shape": tensor_of_2_gb,
    "2 GB lie: a message's length": message_of_2_gb,
}


def _edit(directory: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load_model(directory / MODEL)
    change(model)
    (directory / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    _seal(directory)


def _seal(directory: Path) -> None:
    seal(directory, json.loads((directory / SPEC_FILE).read_text(encoding="utf-8")))
