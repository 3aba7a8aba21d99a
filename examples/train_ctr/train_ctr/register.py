"""Registers a written model version in MLflow, so that the server's watcher finds it.

Needs `mlflow` (examples/requirements-mlflow.txt), which nothing else here does.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from train_ctr.artifact import SPEC_FILE, seal
from train_ctr.self_check import check_artifact
from train_ctr.spec import CONTRACT_VERSION


class MlflowMissingError(Exception):
    """The optional package is not installed."""


@dataclass(frozen=True)
class Provenance:
    """Where the version comes from; kept as the run's params, tags and metrics, not in the artifact."""

    params: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def require_mlflow() -> None:
    """Raises MlflowMissingError; worth asking before a long training."""
    if importlib.util.find_spec("mlflow") is None:
        raise MlflowMissingError("registering needs MLflow: pip install -r examples/requirements-mlflow.txt")


def register(directory: Path, tracking_uri: str, name: str, alias: str, provenance: Provenance) -> int:
    """Uploads `directory`, registers it as the next version of `name` and points `alias` at it.

    Returns the version number. The alias moves last: until then nothing serves the new version.
    """
    import mlflow
    import mlflow.onnx

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(name)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run() as run:
        package = Path(scratch) / "model"
        # MLflow's default moves the weights into a second file, and a model saved twice would lose them.
        mlflow.onnx.save_model(
            onnx.load_model(directory / "model.onnx"),
            str(package),
            save_as_external_data=False,
            metadata={"aibuyer_contract": str(CONTRACT_VERSION)},
        )
        _add_contract_files(directory, package)
        check_artifact(package)
        mlflow.log_params(dict(provenance.params))
        mlflow.set_tags(dict(provenance.tags))
        mlflow.log_metrics(dict(provenance.metrics))
        mlflow.log_artifacts(str(package), "model")
    version = int(mlflow.register_model(f"runs:/{run.info.run_id}/model", name).version)
    mlflow.MlflowClient().set_registered_model_alias(name, alias, str(version))
    return version


def _add_contract_files(directory: Path, package: Path) -> None:
    """Everything but `MLmodel`, which MLflow has just written; then new hashes over MLflow's files too."""
    keep_mlflow_file = shutil.ignore_patterns("MLmodel", SPEC_FILE)
    shutil.copytree(directory, package, ignore=keep_mlflow_file, dirs_exist_ok=True)
    spec = json.loads((directory / SPEC_FILE).read_text(encoding="utf-8"))
    seal(package, spec)
