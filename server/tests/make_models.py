"""Makes the small ONNX models of the tests: `python server/tests/make_models.py server/tests/models`."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(folder: Path, name: str, inputs, outputs, nodes, constants=(), opsets=(("", 17),)) -> None:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())


def info(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def mlflow(folder: Path) -> None:
    """A folder as `mlflow.onnx.log_model` writes it by default: weights in a file of their own, an input example."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(7)
    table = numpy_helper.from_array(random.normal(size=(20, 4)).astype(np.float32), "table")
    weights = numpy_helper.from_array(random.normal(size=(4, 1)).astype(np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["product"]),
            helper.make_node("Add", ["product", "offset"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["prob"]),
        ],
        "deepfm",
        [info("ids", TensorProto.INT64, ["n", 2]), info("offset", TensorProto.FLOAT, ["n", 1])],
        [info("prob", TensorProto.FLOAT, ["n", 1])],
        initializer=[table, weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (folder / "model.data").unlink(missing_ok=True)
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)

    def tensor(name, dtype, shape):
        return {"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}

    inputs = [tensor("ids", "int64", [-1, 2]), tensor("offset", "float32", [-1, 1])]
    outputs = [tensor("prob", "float32", [-1, 1])]
    mlmodel = [
        "flavors:",
        "  onnx:",
        "    code: null",
        "    data: model.onnx",
        "    onnx_version: 1.23.2",
        "  python_function:",
        "    data: model.onnx",
        "    loader_module: mlflow.onnx",
        "mlflow_version: 3.17.2",
        "saved_input_example_info:",
        "  artifact_path: input_example.json",
        "  serving_input_path: serving_input_example.json",
        "  type: ndarray",
        "signature:",
        f"  inputs: '{json.dumps(inputs)}'",
        f"  outputs: '{json.dumps(outputs)}'",
        "  params: null",
    ]
    (folder / "MLmodel").write_text("\n".join(mlmodel) + "\n")
    example = {"ids": [[1, 2], [3, 19]], "offset": [[0.25], [-0.5]]}
    (folder / "input_example.json").write_text(json.dumps(example))
    (folder / "serving_input_example.json").write_text(json.dumps({"inputs": example}, indent=2))


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
    mlflow(folder / "mlflow")
    # Words: as they are, and as numbers, 0 where a word is unknown.
    save(
        folder,
        "words",
        [info("word", TensorProto.STRING, ["n", 2])],
        [info("id", TensorProto.INT64, ["n", 2]), info("same", TensorProto.STRING, ["n", 2])],
        [
            helper.make_node(
                "LabelEncoder",
                ["word"],
                ["id"],
                domain="ai.onnx.ml",
                keys_strings=["cat", "dög"],
                values_int64s=[1, 2],
                default_int64=0,
            ),
            helper.make_node("Identity", ["word"], ["same"]),
        ],
        opsets=[("", 17), ("ai.onnx.ml", 3)],
    )
    # Numbers of 16 bits: both are doubled.
    save(
        folder,
        "small",
        [info("half", TensorProto.FLOAT16, ["n", 3]), info("brain", TensorProto.BFLOAT16, ["n"])],
        [info("half2", TensorProto.FLOAT16, ["n", 3]), info("brain2", TensorProto.BFLOAT16, ["n"])],
        [
            helper.make_node("Add", ["half", "half"], ["half2"]),
            helper.make_node("Cast", ["brain"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "two"], ["wide2"]),
            helper.make_node("Cast", ["wide2"], ["brain2"], to=TensorProto.BFLOAT16),
        ],
        [two],
    )
    # A type that no request can carry.
    save(
        folder,
        "tiny",
        [info("s", TensorProto.FLOAT8E4M3FN, ["n"])],
        [info("t", TensorProto.FLOAT, ["n"])],
        [helper.make_node("Cast", ["s"], ["t"], to=TensorProto.FLOAT)],
        opsets=[("", 19)],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
