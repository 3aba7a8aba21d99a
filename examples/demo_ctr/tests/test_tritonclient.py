"""Triton's own client, unmodified, against the real server: the Open Inference Protocol as others speak it."""

from __future__ import annotations

import json
import os
import queue
import shutil
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
from demo_ctr import server
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_tools import protoc
from tritonclient.grpc import model_config_pb2, service_pb2

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = "ctr-upworthy"


@pytest.fixture(scope="module")
def client() -> Iterator[triton.InferenceServerClient]:
    binary = Path(os.environ.get("SERVER_UNDER_TEST", REPOSITORY / "target/debug/aibuyer-server"))
    with server.running(binary, REPOSITORY / "models") as address, triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    """Models without a contract: of words, and of numbers of 16 bits."""
    binary = Path(os.environ.get("SERVER_UNDER_TEST", REPOSITORY / "target/debug/aibuyer-server"))
    models = tmp_path_factory.mktemp("models")
    for name in ("words", "small"):
        (models / name / "1").mkdir(parents=True)
        shutil.copy(REPOSITORY / f"server/tests/models/{name}.onnx", models / name / "1" / "model.onnx")
    with server.running(binary, models) as address, triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture(scope="module")
def golden() -> list[dict[str, object]]:
    text = (REPOSITORY / "models" / MODEL / "1" / "golden.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def tensor(name: str, values: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, values.shape, "INT64" if values.dtype == np.int64 else "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def request(golden: list[dict[str, object]]) -> list[triton.InferInput]:
    ids = np.array([row["ids"] for row in golden], np.int64)
    dense = np.array([row["dense"] for row in golden], np.float32)
    return [tensor("ids", ids), tensor("dense", dense)]


def test_golden_rows_come_back(client: triton.InferenceServerClient, golden: list[dict[str, object]]) -> None:
    answer = client.infer(MODEL, request(golden), client_timeout=10)
    np.testing.assert_allclose(answer.as_numpy("logit"), [row["logit"] for row in golden], atol=1e-4)
    np.testing.assert_allclose(answer.as_numpy("logit_variance"), [row["logit_variance"] for row in golden], rtol=1e-3)


def test_texts_come_back_as_they_were_sent(plain: triton.InferenceServerClient) -> None:
    words = np.array([["cat", "dög"], ["", "日本"], ["dog", "cat"]], np.object_)
    word = triton.InferInput("word", words.shape, "BYTES")
    word.set_data_from_numpy(words)
    answer = plain.infer("words", [word])
    np.testing.assert_array_equal(answer.as_numpy("id"), [[1, 2], [0, 0], [0, 1]])
    back = [[text.decode() for text in row] for row in answer.as_numpy("same")]
    assert back == words.tolist()
    assert plain.get_model_config("words").config.input[0].data_type == model_config_pb2.TYPE_STRING
    word.set_data_from_numpy(np.array([[b"cat", b"\xff"]] * 3, np.object_))
    with pytest.raises(triton.InferenceServerException, match=r'inputs\["word"\]\[1\]: is not UTF-8'):
        plain.infer("words", [word])


def test_numbers_of_16_bits_come_back_doubled(plain: triton.InferenceServerClient) -> None:
    halves = np.array([[0.1, -65_000, 6e-8], [1, 2, 3]], np.float16)
    brains = np.array([1e38, -0.5], ml_dtypes.bfloat16)
    half = triton.InferInput("half", halves.shape, "FP16")
    half.set_data_from_numpy(halves)
    brain = triton.InferInput("brain", brains.shape, "BF16")
    brain.set_data_from_numpy(brains)
    answer = plain.infer("small", [half, brain])
    assert answer.as_numpy("half2").dtype == np.float16
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(answer.as_numpy("half2"), halves + halves)
    np.testing.assert_array_equal(answer.as_numpy("brain2").astype(np.float32), 2 * brains.astype(np.float32))


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    about = client.get_server_metadata()
    assert about.name == "aibuyer"
    assert list(about.extensions) == ["model_repository", "model_configuration", "statistics"]
    metadata = client.get_model_metadata(MODEL, as_json=True)
    assert {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]} == {
        "ids": ["-1", "19"],
        "dense": ["-1", "6"],
    }


def test_errors_are_the_clients_own(client: triton.InferenceServerClient) -> None:
    one = np.zeros((1, 19), np.int64)
    with pytest.raises(triton.InferenceServerException, match="lacks dense") as caught:
        client.infer(MODEL, [tensor("ids", one)])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(triton.InferenceServerException, match="there are: ctr-upworthy"):
        client.infer("none", [tensor("ids", one)])


def test_every_name_and_number_is_tritons(tmp_path: Path) -> None:
    out = tmp_path / "inference.bin"
    arguments = ["protoc", f"-I{REPOSITORY / 'proto'}", f"--descriptor_set_out={out}", "--include_imports"]
    assert protoc.main([*arguments, "inference/open_inference.proto"]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    theirs = descriptor_pool.Default()
    methods = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    checked = 0

    def describe(field: descriptor_pb2.FieldDescriptorProto) -> tuple[int, int, int, str]:
        return field.number, field.type, field.label, field.type_name

    def check(message: descriptor_pb2.DescriptorProto, name: str) -> None:
        nonlocal checked
        own = descriptor_pb2.DescriptorProto()
        theirs.FindMessageTypeByName(name).CopyToProto(own)
        known = {field.name: field for field in own.field}
        for field in message.field:
            assert describe(field) == describe(known[field.name]), f"{name}.{field.name}"
            checked += 1
        for nested in message.nested_type:
            check(nested, f"{name}.{nested.name}")

    for file in files:
        for message in file.message_type:
            check(message, f"inference.{message.name}")
        for enum in file.enum_type:
            values = theirs.FindEnumTypeByName(f"inference.{enum.name}").values_by_name
            assert all(values[value.name].number == value.number for value in enum.value)
        for method in (method for service in file.service for method in service.method):
            known = descriptor_pb2.MethodDescriptorProto()
            methods[method.name].CopyToProto(known)
            method.ClearField("options")
            known.ClearField("options")
            assert method == known
    assert checked > 100


def test_configuration_is_the_metadata_without_the_batch(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config(MODEL).config
    metadata = client.get_model_metadata(MODEL)
    assert config.name == MODEL
    assert config.max_batch_size == 10_000
    for tensors, configured in ((metadata.inputs, config.input), (metadata.outputs, config.output)):
        assert {t.name: list(t.shape) for t in tensors} == {t.name: [-1, *t.dims] for t in configured}
        assert {t.name: f"TYPE_{t.datatype}" for t in tensors} == {
            t.name: model_config_pb2.DataType.Name(t.data_type) for t in configured
        }
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert not config.model_transaction_policy.decoupled
    assert config.version_policy.latest.num_versions == 1


def test_statistics_count_what_was_asked(client: triton.InferenceServerClient, golden: list[dict[str, object]]) -> None:
    before = client.get_inference_statistics(MODEL).model_stats[0]
    inputs = request(golden)
    for _ in range(3):
        client.infer(MODEL, inputs)
    with pytest.raises(triton.InferenceServerException):
        client.infer(MODEL, inputs[:1])
    (after,) = client.get_inference_statistics(MODEL, "1").model_stats
    assert (after.name, after.version) == (MODEL, "1")
    assert after.inference_count - before.inference_count == 3 * len(golden)
    assert after.execution_count - before.execution_count == 3
    assert after.last_inference >= max(before.last_inference, 1_700_000_000_000), "milliseconds since 1970"
    was, now = before.inference_stats, after.inference_stats
    assert now.success.count - was.success.count == 3
    assert now.fail.count - was.fail.count == 1
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(now, stage).count == now.success.count
        assert getattr(now, stage).ns >= getattr(was, stage).ns
    sizes = {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats}
    assert sum(sizes.values()) == after.execution_count
    assert sum(size * count for size, count in sizes.items()) == after.inference_count
    assert client.get_inference_statistics().model_stats[0].name == MODEL


def test_the_repository_is_listed_and_looked_at_but_not_unloaded(client: triton.InferenceServerClient) -> None:
    models = {model.name: model for model in client.get_model_repository_index().models}
    assert set(models) == {folder.name for folder in (REPOSITORY / "models").iterdir() if folder.is_dir()}
    assert (models[MODEL].version, models[MODEL].state, models[MODEL].reason) == ("1", "READY", "")
    client.load_model(MODEL)
    with pytest.raises(triton.InferenceServerException, match='the registry has no model "none"') as caught:
        client.load_model("none")
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(triton.InferenceServerException, match="not allowed if polling is enabled") as caught:
        client.unload_model(MODEL)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert client.is_model_ready(MODEL)


def test_a_stream_answers_in_order_and_a_bad_request_harms_none(
    client: triton.InferenceServerClient, golden: list[dict[str, object]]
) -> None:
    answers: queue.Queue[tuple[triton.InferResult | None, triton.InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        inputs = request(golden)
        client.async_stream_infer(MODEL, inputs, request_id="0", enable_empty_final_response=True)
        client.async_stream_infer(MODEL, inputs[:1], request_id="1")
        client.async_stream_infer("none", inputs, request_id="2")
        client.async_stream_infer(MODEL, inputs, request_id="3", timeout=5_000_000)
        got = [answers.get(timeout=30) for _ in range(4)]
    finally:
        client.stop_stream()
    assert ["lacks dense" in str(got[1][1]), "there are: ctr-upworthy" in str(got[2][1])] == [True, True]
    for (result, error), request_id in ((got[0], "0"), (got[3], "3")):
        assert error is None
        response = result.get_response()
        assert response.id == request_id
        assert response.parameters["triton_final_response"].bool_param
        np.testing.assert_allclose(result.as_numpy("logit"), [row["logit"] for row in golden], atol=1e-4)
    assert answers.empty()


def test_what_is_not_there_says_so(client: triton.InferenceServerClient) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.get_trace_settings()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
