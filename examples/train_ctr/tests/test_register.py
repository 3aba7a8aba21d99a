"""Errors of MLflow and credentials; the upload itself is tested with a real server, beside the demo of MLflow."""

from __future__ import annotations

import pytest
from train_ctr.mlflow_rest import MlflowError, Registry, _authorization, _refusal


def test_errors_name_the_call_and_what_mlflow_said() -> None:
    error = _refusal("POST http://m/x", 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no model a"}')
    assert (error.code, str(error)) == (
        "RESOURCE_DOES_NOT_EXIST",
        "POST http://m/x: RESOURCE_DOES_NOT_EXIST: no model a",
    )
    assert str(_refusal("GET http://m/x", 403, b"Invalid Host header")).endswith("status 403: Invalid Host header")


def test_credentials_have_the_names_of_mlflows_client() -> None:
    basic = _authorization({"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "b"})
    assert basic == {"Authorization": "Basic YTpi"}
    assert _authorization({"MLFLOW_TRACKING_TOKEN": "t"}) == {"Authorization": "Bearer t"}
    assert _authorization({}) == {}


def test_an_mlflow_that_is_not_there_is_said() -> None:
    with pytest.raises(MlflowError, match="is MLflow running there"):
        Registry("http://127.0.0.1:9", {}).experiment("any")
