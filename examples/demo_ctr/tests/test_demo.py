"""The demo from end to end against a stand-in server, and its parts."""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from demo_ctr import __main__ as demo
from demo_ctr import client, server, stubs
from demo_ctr.errors import DemoError
from train_ctr import artifact, upworthy
from train_ctr.experiment import run

HERE = Path(__file__).parent


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    paths = os.pathsep.join(str(HERE.parents[1] / folder) for folder in ("train_ctr", "demo_ctr"))
    command = f"PYTHONPATH='{paths}' exec '{sys.executable}' '{HERE / 'stand_in_server.py'}'"
    return script(tmp_path / "stand-in", command)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small CSV with a missing image, and a models folder trained on it."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    path = folder / "creatives.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(upworthy.COLUMNS)
        for test in range(80):
            for creative in range(6):
                image = "nan" if test % 10 == 0 else f"i{test % 7}"
                clicks = int(rng.binomial(2000, 0.01 + 0.0005 * (test % 20)))
                writer.writerow(
                    [f"t{test:02}", str(201301 + test % 5), image, f"Headline Number {creative}?", 2000, clicks]
                )
    trained = run(upworthy.dataset(upworthy.read_creatives(path), seed=7), seed=7, log=lambda message: None)
    artifact.write(folder / "models" / upworthy.MODEL_NAME / "1", trained.contents)
    return path, folder / "models"


def run_demo(monkeypatch: pytest.MonkeyPatch, binary: Path, world: tuple[Path, Path], out: Path) -> int:
    data, models = world
    arguments = ["--server", binary, "--models", models, "--out", out, "--csv", data]
    monkeypatch.setattr(sys, "argv", ["demo_ctr", *map(str, arguments)])
    return demo.main()


def test_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stand_in: Path,
    world: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    assert run_demo(monkeypatch, stand_in, world, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "they agree" in printed
    assert "new tests (cold)" in printed
    assert (tmp_path / "out" / "ctr-upworthy.png").stat().st_size > 20_000


def test_a_server_that_computes_something_else_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stand_in: Path,
    world: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("STAND_IN_LOGIT_ERROR", "3e-6")
    assert run_demo(monkeypatch, stand_in, world, tmp_path / "out") == 1
    assert "THEY DISAGREE" in capsys.readouterr().out


def test_a_model_of_other_data_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: tuple[Path, Path], tmp_path: Path
) -> None:
    committed = HERE.parents[2] / "models"
    assert run_demo(monkeypatch, tmp_path / "unused", (world[0], committed), tmp_path / "out") == 1
    assert "was trained on other creatives" in capsys.readouterr().err


def test_a_server_that_dies_is_quoted(tmp_path: Path) -> None:
    binary = script(tmp_path / "dying", "echo 'no such model folder' >&2; exit 3")
    quoted = r"status 3 before it was ready:\n  \| no such model folder"
    with pytest.raises(DemoError, match=quoted), server.running(binary, tmp_path):
        pass
    with pytest.raises(DemoError, match="there is no server at"), server.running(tmp_path / "absent", tmp_path):
        pass


def test_columns_carry_types_lists_and_missing_rows(api: stubs.Stubs) -> None:
    rows = [
        {"test": "t", "image": None, "words": ["a", "b"], "chars": 3, "share": 0.5, "flag": True, "none": None},
        {"test": "t", "image": "i", "words": [], "chars": 4, "share": 1.5, "flag": False, "none": None},
    ]
    request = client.build_request(api, "model", rows, context=("test",))
    assert [column.name for column in request.context] == ["test"]
    columns = {column.name: column for column in request.candidates}
    assert columns.keys() == {"image", "words", "chars", "share", "flag"}
    assert (list(columns["image"].strings.values), list(columns["image"].missing)) == (["", "i"], [0])
    words = columns["words"].string_lists
    assert (list(words.values), list(words.lengths)) == (["a", "b"], [2, 0])
    assert list(columns["chars"].int64s.values) == [3, 4]
    assert list(columns["share"].doubles.values) == [0.5, 1.5]
    assert list(columns["flag"].bools.values) == [True, False]
    assert request.candidate_count == 2


def test_replies_must_be_complete(api: stubs.Stubs) -> None:
    reply = api.ctr.PredictCtrResponse(predictions=[api.ctr.CtrPrediction(ctr=0.1, ctr_lower=0.05, ctr_upper=0.2)])
    assert client.read_reply(reply, 1).tolist() == [[0.1, 0.05, 0.2]]
    with pytest.raises(DemoError, match="1 predictions for 2"):
        client.read_reply(reply, 2)
    reply.predictions.add(ctr=0.1)
    with pytest.raises(DemoError, match="candidate 1 has no interval"):
        client.read_reply(reply, 2)
    reply.predictions[1].error.field = "week"
    with pytest.raises(DemoError, match="candidate 1: week"):
        client.read_reply(reply, 2)


def test_consecutive_rows_of_one_key_share_a_request() -> None:
    rows = [{"test": name} for name in "aabcca"]
    assert client.request_ranges(rows, lambda index, row: row["test"]) == [
        range(2),
        range(2, 3),
        range(3, 5),
        range(5, 6),
    ]
    assert len(client.request_ranges(rows, lambda index, row: index)) == 6
