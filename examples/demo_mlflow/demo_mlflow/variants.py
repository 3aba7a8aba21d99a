"""Further versions of a trained model, made without training, whose scores tell which version answered.

`out_bias` moves every logit by the same amount. Vocabularies are turned round, and the table's rows with them: the
scores stay, but ids that one version encoded mean other rows to the other, so that an answer made from parts of two
versions has the score of neither.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from train_ctr import artifact
from train_ctr.encoder import read_vocabularies
from train_ctr.layout import FIRST_VALUE_ROW
from train_ctr.spec import Built

# Tensors with a row for each id.
TABLES = ("table", "live")


def derive(source: Path, directory: Path, shift: float, widen: int = 1) -> None:
    """Writes a version whose logits are those of `source` plus `shift`.

    `widen` multiplies the buckets of hashed fields: a larger table with the same scores.
    """
    contents = read(source)
    spec, tensors = contents.built.spec, Tensors(contents.model)
    rows = np.arange(spec["table_rows"])
    wider: list[np.ndarray] = []
    offset = 0
    for field in spec["fields"]:
        if "row_offset" not in field:
            continue
        first = field["row_offset"] + FIRST_VALUE_ROW
        own = rows[field["row_offset"] : first], rows[first : field["row_offset"] + field["rows"]]
        if field["encoding"]["type"] == "hash":
            # A hash modulo the wider number of buckets leads to a copy of the row that it led to before.
            values = np.tile(own[1], widen)
            field["encoding"]["buckets"] = len(values)
        else:
            values = own[1][::-1]
            contents.built.vocabularies[field["encoding"]["file"]].reverse()
        field |= {"row_offset": offset, "rows": FIRST_VALUE_ROW + len(values)}
        offset += field["rows"]
        wider += [own[0], values]
    order = np.concatenate(wider)
    spec["table_rows"] = len(order)
    for name in TABLES:
        tensors[name] = tensors[name][order]
    tensors["out_bias"] = tensors["out_bias"] + np.float32(shift)
    artifact.write(directory, contents)


def read(directory: Path) -> artifact.Contents:
    """What `artifact.write` wrote."""
    spec: dict[str, Any] = json.loads((directory / artifact.SPEC_FILE).read_text(encoding="utf-8"))
    del spec["files_sha256"]
    profile = spec.pop("profile", None)
    golden = [json.loads(line) for line in (directory / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    return artifact.Contents(
        built=Built(spec, read_vocabularies(spec, directory)),
        model=onnx.load_model(directory / "model.onnx"),
        calibration=json.loads((directory / "calibration.json").read_text(encoding="utf-8")),
        golden=[(row["note"], row["inputs"]) for row in golden],
        profile=json.loads((directory / profile).read_text(encoding="utf-8")) if profile else None,
    )


class Tensors:
    """The weights of a model by name, to read and to replace."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __getitem__(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self._tensors[name])

    def __setitem__(self, name: str, values: np.ndarray) -> None:
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
