"""Writes a network as an ONNX graph, node by node.

Input `context` float32 [batch, context], NaN where a value is missing; output `quantiles` float32 [batch, horizon,
quantiles]: raw values on both sides, scaling is inside. No random operator, no external data; only `batch` is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from train_forecast.nhits import Nhits

OPSET, IR_VERSION = 17, 8


def build(model: Nhits) -> onnx.ModelProto:
    """The graph is checked before it is returned."""
    graph, shape, p = _Graph(), model.shape, model.parameters
    missing = graph.add("IsNaN", ["context"])
    zero, one = graph.scalar("zero", 0), graph.scalar("one", 1)
    mask = graph.add("Where", [missing, zero, one])
    count = graph.sum(mask)
    mean = graph.add("Div", [graph.sum(graph.add("Where", [missing, zero, "context"])), count])
    centred = graph.add("Where", [missing, zero, graph.add("Sub", ["context", mean])])
    variance = graph.add("Div", [graph.sum(graph.add("Mul", [centred, centred])), count])
    least = graph.add("Mul", [mean, graph.scalar("thousandth", 1e-3)])
    floor = graph.add("Add", [graph.add("Mul", [least, least]), graph.scalar("tiny", 1e-12)])
    scale = graph.add("Sqrt", [graph.add("Add", [variance, floor])])

    rest, output = graph.add("Div", [centred, scale]), ""
    for block, pool in enumerate(shape.pools):
        seen = graph.add("Concat", [graph.average(rest, pool), graph.average(mask, pool)], axis=1)
        hidden = graph.add("Relu", [graph.affine(p, "in", block, seen)])
        hidden = graph.add("Relu", [graph.affine(p, "mid", block, hidden)])
        knots = graph.reshape(graph.affine(p, "forecast", block, hidden), [0, -1, len(shape.quantiles)])
        part = graph.add("MatMul", [graph.constant(f"to_horizon_{block}", model.to_horizon[block].T), knots])
        output = graph.add("Add", [output, part]) if output else part
        if f"backcast_{block}" in p:
            to_context = graph.constant(f"to_context_{block}", model.to_context[block])
            backcast = graph.add("MatMul", [graph.affine(p, "backcast", block, hidden), to_context])
            rest = graph.add("Mul", [graph.add("Sub", [rest, backcast]), mask])
    # [batch, 1] to [batch, 1, 1].
    axis = graph.integers("axis_2", [2])
    spread = graph.add("Mul", [output, graph.add("Unsqueeze", [scale, axis])])
    graph.add("Add", [spread, graph.add("Unsqueeze", [mean, axis])], output="quantiles")
    return graph.finish(
        helper.make_tensor_value_info("context", TensorProto.FLOAT, ["batch", shape.context]),
        helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["batch", shape.horizon, len(shape.quantiles)]),
    )


class _Graph:
    """Collects nodes and constants; every method returns the name of a tensor."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        return self._store(name, np.ascontiguousarray(value, np.float32))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value))

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self._store(name, np.array(values, np.int64))

    def add(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: int) -> str:
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def affine(self, parameters: dict[str, np.ndarray], name: str, block: int, inputs: str) -> str:
        weight = self.constant(f"{name}_{block}", parameters[f"{name}_{block}"])
        bias = self.constant(f"{name}_bias_{block}", parameters[f"{name}_bias_{block}"])
        return self.add("Gemm", [inputs, weight, bias])

    def sum(self, tensor: str) -> str:
        """[batch, n] to [batch, 1]."""
        return self.add("ReduceSum", [tensor, self.integers("axis_1", [1])], keepdims=1)

    def average(self, tensor: str, pool: int) -> str:
        """Means of each `pool` columns."""
        if pool == 1:
            return tensor
        return self.add("ReduceMean", [self.reshape(tensor, [0, -1, pool])], axes=[2], keepdims=0)

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", [tensor, self.integers("shape_" + "_".join(map(str, shape)), shape)])

    def finish(self, source: onnx.ValueInfoProto, target: onnx.ValueInfoProto) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, "nhits", [source], [target], list(self._constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="train_forecast")
        onnx.checker.check_model(model, full_check=True)
        return model

    def _store(self, name: str, value: np.ndarray) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(value, name))
        return name
