"""What is done to the folder that MLflow wrote; the upload itself needs a tracking server."""

import json
import shutil
from pathlib import Path

import pytest
from train_ctr import register
from train_ctr.self_check import check_artifact


def test_contract_files_join_the_folder_that_mlflow_wrote(committed_artifact: Path, tmp_path: Path) -> None:
    package = tmp_path / "model"
    package.mkdir()
    shutil.copy(committed_artifact / "model.onnx", package)
    (package / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}\nmodel_uuid: abc\n")
    (package / "conda.yaml").write_text("name: mlflow-env\n")
    register._add_contract_files(committed_artifact, package)
    check_artifact(package)
    assert "abc" in (package / "MLmodel").read_text(), "MLflow's own file stays"
    hashes = json.loads((package / "feature_spec.json").read_text())["files_sha256"]
    assert {"MLmodel", "conda.yaml", "model.onnx", "vocab/week.jsonl"} <= hashes.keys()


def test_a_missing_mlflow_is_said_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(register.MlflowMissingError, match=r"requirements-mlflow\.txt"):
        register.require_mlflow()
