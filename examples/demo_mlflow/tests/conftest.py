"""One real MLflow server for all tests; each test registers models of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from demo_mlflow.mlflow_server import MlflowServer
from train_ctr.mlflow_rest import Registry


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    server = MlflowServer(folder, folder / "mlflow.log")
    try:
        server.start_and_wait()
        yield server
        server.require_running()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def registry(mlflow: MlflowServer) -> Registry:
    return mlflow.registry()
