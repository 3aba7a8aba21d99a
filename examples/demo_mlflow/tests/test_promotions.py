"""The real server on a real MLflow: what a person who promotes versions relies on."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from demo_mlflow import broken, page, proxy
from demo_mlflow.mlflow_server import REPOSITORY
from demo_mlflow.stage import Stage
from demo_mlflow.traffic import Traffic, summarise
from train_ctr.mlflow_rest import Registry

BINARY = Path(os.environ.get("SERVER_UNDER_TEST", REPOSITORY / "target/debug/aibuyer-server"))
RATE = 50
PATIENCE = 30.0


@pytest.fixture
def stage(registry: Registry, tmp_path: Path, request: pytest.FixtureRequest) -> Stage:
    """A model of the test's own, with one version that serves."""
    stage = Stage(registry, request.node.name, tmp_path)
    stage.promote(stage.add_good())
    return stage


def unharmed(traffic: Traffic, versions: set[int]) -> None:
    seen = summarise(traffic.answers)
    assert (seen.errors, seen.mixed, set(seen.versions)) == ({}, 0, versions)


def test_promote_refuse_and_roll_back_under_load(stage: Stage) -> None:
    with stage.server(BINARY) as server:
        second = stage.add_good()
        with stage.traffic(server, RATE) as traffic:
            traffic.first_answer(1, time.monotonic(), PATIENCE)
            traffic.first_answer(second, stage.promote(second), PATIENCE)
            for name in ("golden mismatch", "external data outside the folder", "truncated file"):
                directory = stage.folder / name
                broken.make(stage.folders[second], directory, broken.FAULTS[name])
                bad = stage.add(directory)
                stage.promote(bad)
                _, reason = page.wait_for_refusal(server.http, stage.model, bad, PATIENCE)
                assert reason, name
                traffic.first_answer(second, time.monotonic(), PATIENCE)
            traffic.first_answer(1, stage.promote(1), PATIENCE)
        unharmed(traffic, {1, second})


def test_a_signed_webhook_is_faster_than_the_poll(stage: Stage) -> None:
    with stage.server(BINARY, {"registry.poll_interval": "10m"}, webhook=True) as server:
        second = stage.add_again(1)
        with stage.traffic(server, RATE) as traffic:
            traffic.first_answer(1, time.monotonic(), PATIENCE)
            traffic.first_answer(second, stage.promote(second), PATIENCE)
        unharmed(traffic, {1, second})


def test_what_serves_outlives_the_registry_and_a_restart_without_it(stage: Stage) -> None:
    with ExitStack() as open_proxy:
        before = open_proxy.enter_context(proxy.running(stage.registry.url))
        with stage.server(BINARY, {"registry.mlflow_url": before.url}) as server:
            with stage.traffic(server, RATE) as traffic:
                traffic.first_answer(1, time.monotonic(), PATIENCE)
                open_proxy.close()
                page.wait_for(server.http, before.url, PATIENCE)
                traffic.first_answer(1, time.monotonic(), PATIENCE)
            unharmed(traffic, {1})
            server.kill()
            server.start_and_wait()
            with stage.traffic(server, RATE) as traffic:
                traffic.first_answer(1, time.monotonic(), PATIENCE)
            unharmed(traffic, {1})


def test_a_deleted_alias_unloads_nothing(stage: Stage) -> None:
    with stage.server(BINARY) as server:
        with stage.traffic(server, RATE) as traffic:
            traffic.first_answer(1, time.monotonic(), PATIENCE)
            stage.registry.delete_alias(stage.model, "champion")
            stage.registry.delete_version(stage.model, 1)
            page.wait_for(server.http, "gone from the registry", PATIENCE)
            traffic.first_answer(1, time.monotonic(), PATIENCE)
        unharmed(traffic, {1})
