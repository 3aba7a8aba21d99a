"""Registering over plain HTTP, against a real MLflow."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from train_ctr.mlflow_rest import ARTIFACTS, PROXIED, MlflowError, Provenance, Registry
from train_ctr.register import register

REPOSITORY = Path(__file__).resolve().parents[3]
COMMITTED = REPOSITORY / "models" / "ctr-upworthy" / "1"


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def test_a_version_is_whole_before_its_alias_moves(registry: Registry) -> None:
    provenance = Provenance({"seed": 7}, {"data_file": "a.csv"}, {"auc": 0.66})
    assert register(COMMITTED, registry, "whole", "champion", provenance) == 1
    root = registry.download_uri("whole", 1).removeprefix(PROXIED)
    files = [path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*") if path.is_file()]
    assert len(files) == 9
    for file in files:
        assert read(f"{registry.url}{ARTIFACTS}/{root}/{file}") == (COMMITTED / file).read_bytes()
    found = json.loads(read(f"{registry.url}/api/2.0/mlflow/registered-models/alias?name=whole&alias=champion"))[
        "model_version"
    ]
    run = json.loads(read(f"{registry.url}/api/2.0/mlflow/runs/get?run_id={found['run_id']}"))["run"]
    assert (found["version"], run["info"]["status"]) == ("1", "FINISHED")
    assert run["data"]["params"] == [{"key": "seed", "value": "7"}]
    assert run["data"]["metrics"][0]["value"] == 0.66
    assert register(COMMITTED, registry, "whole", "challenger", provenance) == 2


def test_versions_and_aliases_go_away(registry: Registry) -> None:
    register(COMMITTED, registry, "going", "champion", Provenance({}, {}, {}))
    registry.delete_alias("going", "champion")
    registry.delete_version("going", 1)
    with pytest.raises(MlflowError, match="not found") as caught:
        registry.download_uri("going", 1)
    assert caught.value.code == "RESOURCE_DOES_NOT_EXIST"
