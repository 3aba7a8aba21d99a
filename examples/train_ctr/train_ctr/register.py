"""Registers a written model version in MLflow, from where the server takes it."""

from __future__ import annotations

from pathlib import Path

from train_ctr.mlflow_rest import Provenance, Registry
from train_ctr.self_check import check_artifact


def register(directory: Path, registry: Registry, name: str, alias: str, provenance: Provenance) -> int:
    """Uploads `directory` as it is, registers it as the next version of `name` and points `alias` at it.

    Returns the version number. The alias moves last: until then nothing serves the new version.
    """
    check_artifact(directory)
    experiment = registry.experiment(name)
    run = registry.run(experiment, provenance)
    source = registry.log_model(experiment, name, directory, run)
    registry.create_model(name)
    version = registry.create_version(name, source, run)
    registry.set_alias(name, alias, version)
    return version
