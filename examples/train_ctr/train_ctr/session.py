"""Runs an exported graph in ONNX Runtime on one CPU thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Session:
    """A loaded `model.onnx`. `run` returns `logit` and `logit_variance`, float32 [batch] each."""

    def __init__(self, model: Path | bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        source = model if isinstance(model, bytes) else str(model)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(
        self, ids: NDArray[np.int64], dense: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logit, variance = self._session.run(["logit", "logit_variance"], {"ids": ids, "dense": dense})
        return logit, variance

    def signature(self) -> dict[str, dict[str, dict[str, object]]]:
        """Inputs and outputs in the shape that `feature_spec.json` states them."""
        describe = {"tensor(int64)": "int64", "tensor(float)": "float32"}
        return {
            side: {
                value.name: {"dtype": describe.get(value.type, value.type), "shape": value.shape} for value in values
            }
            for side, values in (("inputs", self._session.get_inputs()), ("outputs", self._session.get_outputs()))
        }
