"""Triton's own client, unmodified, against the real server: the Open Inference Protocol as others speak it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from demo_ctr import server

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = "ctr-upworthy"


@pytest.fixture(scope="module")
def client() -> Iterator[triton.InferenceServerClient]:
    binary = Path(os.environ.get("AIBUYER_TEST_SERVER", REPOSITORY / "target/debug/aibuyer-server"))
    with server.running(binary, REPOSITORY / "models") as address, triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture(scope="module")
def golden() -> list[dict[str, object]]:
    text = (REPOSITORY / "models" / MODEL / "1" / "golden.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def tensor(name: str, values: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, values.shape, "INT64" if values.dtype == np.int64 else "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def test_golden_rows_come_back(client: triton.InferenceServerClient, golden: list[dict[str, object]]) -> None:
    ids = np.array([row["ids"] for row in golden], np.int64)
    dense = np.array([row["dense"] for row in golden], np.float32)
    answer = client.infer(MODEL, [tensor("ids", ids), tensor("dense", dense)], client_timeout=10)
    np.testing.assert_allclose(answer.as_numpy("logit"), [row["logit"] for row in golden], atol=1e-4)
    np.testing.assert_allclose(answer.as_numpy("logit_variance"), [row["logit_variance"] for row in golden], rtol=1e-3)


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    assert client.get_server_metadata().name == "aibuyer"
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
