"""Makes the small ONNX models of the tests: `python server/tests/make_models.py server/tests/models`."""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def save(folder: Path, name: str, inputs, outputs, nodes, constants=()) -> None:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())


def info(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    # Rows by themselves: twice the number, and the count as a double.
    save(
        folder,
        "rows",
        [info("x", TensorProto.FLOAT, ["n", 3]), info("count", TensorProto.INT32, ["n"])],
        [info("double", TensorProto.FLOAT, ["n", 3]), info("count_out", TensorProto.DOUBLE, ["n"])],
        [
            helper.make_node("Mul", ["x", "two"], ["double"]),
            helper.make_node("Cast", ["count"], ["count_out"], to=TensorProto.DOUBLE),
        ],
        [two],
    )
    # The same signature as a model of rows, but each depends on all: the mean over rows is taken off.
    save(
        folder,
        "centred",
        [info("x", TensorProto.FLOAT, ["n", 3])],
        [info("y", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
    )
    # Two dimensions that vary.
    save(
        folder,
        "series",
        [info("history", TensorProto.FLOAT, ["n", "length"])],
        [info("total", TensorProto.FLOAT, ["length"])],
        [helper.make_node("ReduceSum", ["history", "axis"], ["total"], keepdims=0)],
        [axis],
    )
    # A type that no request can carry.
    save(
        folder,
        "text",
        [info("s", TensorProto.STRING, ["n"])],
        [info("t", TensorProto.STRING, ["n"])],
        [helper.make_node("Identity", ["s"], ["t"])],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
