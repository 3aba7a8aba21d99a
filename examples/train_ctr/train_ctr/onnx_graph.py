"""Writes a DeepFM with its id variance as an ONNX graph, node by node.

Inputs `ids` int64 [batch, slots] and `dense` float32 [batch, columns]; outputs `logit` and
`logit_variance`, float32 [batch]. One Gather fetches embedding, first-order weight and row variance.
No random operator, no external data; only `batch` is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from train_ctr.deepfm import DeepFM
from train_ctr.spec import IR_VERSION, OPSET


def build(model: DeepFM, row_variance: np.ndarray, tau2: float) -> onnx.ModelProto:
    """`row_variance` is [table_rows]. The graph is checked before it is returned."""
    graph = _Graph()
    layout, p, k = model.layout, model.parameters, model.factors
    fields = len(layout.fields)

    table = np.concatenate([p["table"], row_variance[:, None]], axis=1)
    slots = graph.add("Gather", [graph.constant("table", table), "ids"], axis=0)
    if any(field.is_multi for field in layout.fields):
        live = graph.add("Gather", [graph.constant("live", layout.live[:, None]), "ids"], axis=0)
        membership = graph.constant("membership", layout.membership)
        one = graph.constant("one", np.array(1))
        counts = graph.add("Max", [graph.add("MatMul", [membership, live]), one])
        inverse_counts = graph.add("Reciprocal", [counts])
        pooled = graph.add("Mul", [graph.add("MatMul", [membership, slots]), inverse_counts])
        # Already divided by the count once: a mean of c values has variance sum / c^2.
        variances = graph.add("Mul", [graph.columns(pooled, k + 1, k + 2), inverse_counts])
    else:
        # One slot a field: nothing to pool, and missing rows hold zeros.
        pooled = slots
        variances = graph.columns(pooled, k + 1, k + 2)

    embedding = graph.columns(pooled, 0, k)
    first_order = graph.sum(graph.columns(pooled, k, k + 1), axes=(1, 2))
    variance = graph.sum(variances, axes=(1, 2))
    graph.add("Add", [variance, graph.constant("tau2", np.array(tau2))], output="logit_variance")

    summed = graph.sum(embedding, axes=(1,))
    squares = graph.sum(graph.add("Mul", [embedding, embedding]), axes=(1,))
    twice_pairs = graph.sum(graph.add("Sub", [graph.add("Mul", [summed, summed]), squares]), axes=(1,))
    pairs = graph.add("Mul", [twice_pairs, graph.constant("half", np.array(0.5))])

    flat_shape = graph.integers("flat_shape", [0, fields * k])
    hidden = graph.add("Concat", [graph.add("Reshape", [embedding, flat_shape]), "dense"], axis=1)
    for index in range(len(model.hidden)):
        weight = graph.constant(f"weight_{index}", p[f"weight_{index}"])
        bias = graph.constant(f"bias_{index}", p[f"bias_{index}"])
        hidden = graph.add("Relu", [graph.add("Gemm", [hidden, weight, bias])])
    out_weight = graph.constant("out_weight", p["out_weight"][:, None])
    out_bias = graph.constant("out_bias", p["out_bias"].reshape(1))
    deep = graph.squeeze(graph.add("Gemm", [hidden, out_weight, out_bias]))
    dense_weight = graph.constant("dense_weight", p["dense_weight"][:, None])
    dense_part = graph.squeeze(graph.add("MatMul", ["dense", dense_weight]))
    shallow = graph.add("Add", [graph.add("Add", [first_order, dense_part]), pairs])
    graph.add("Add", [shallow, deep], output="logit")

    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", layout.slots]),
        helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", layout.dense_columns]),
    ]
    return graph.finish("deepfm", inputs, ("logit", "logit_variance"))


class _Graph:
    """Collects nodes and constants under readable, unique names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        return self._store(name, np.asarray(value, np.float32))

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self._store(name, np.array(values, np.int64))

    def add(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: int) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def columns(self, tensor: str, start: int, stop: int) -> str:
        """Elements start..stop of the last axis of a rank-3 tensor."""
        names = [self.integers(f"at_{value}", [value]) for value in (start, stop, 2)]
        return self.add("Slice", [tensor, *names])

    def sum(self, tensor: str, axes: tuple[int, ...]) -> str:
        name = self.integers("axes_" + "_".join(map(str, axes)), axes)
        return self.add("ReduceSum", [tensor, name], keepdims=0)

    def squeeze(self, tensor: str) -> str:
        """[batch, 1] to [batch]."""
        return self.add("Squeeze", [tensor, self.integers("axes_1", [1])])

    def finish(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[str]) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch"]) for output in outputs]
        graph = helper.make_graph(self._nodes, name, inputs, infos, list(self._constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="train_ctr"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _store(self, name: str, value: np.ndarray) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(value, name))
        return name
