"""The whole way on a small synthetic archive: it learns, writes, checks, and does so reproducibly."""

import filecmp
import json
import shutil
from pathlib import Path

import pytest
import synthetic
from train_ctr import artifact, plots, report, upworthy
from train_ctr.experiment import Experiment, run
from train_ctr.self_check import ArtifactError, check_artifact


def test_it_learns_and_its_intervals_hold(synthetic_run: Experiment) -> None:
    warm, cold = synthetic_run.evaluations["test"], synthetic_run.evaluations["cold_test"]
    assert warm.quality.auc > 0.60
    assert warm.quality.ne < 0.985
    assert warm.quality.auc > cold.quality.auc
    assert 0.84 < warm.intervals.predictive[0.9] < 0.96
    assert cold.intervals.width_ratio > warm.intervals.width_ratio, "unknown tests are known less well"


def test_the_written_version_passes_its_own_check(synthetic_run: Experiment, tmp_path: Path) -> None:
    found = artifact.write(tmp_path / "model", synthetic_run.contents)
    assert found == check_artifact(tmp_path / "model")
    assert found.golden_rows == len(synthetic_run.contents.golden)
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing is left beside it"


def test_same_data_and_seed_give_the_same_bytes(synthetic_run: Experiment, tmp_path: Path) -> None:
    again = run(upworthy.dataset(synthetic.creatives(), seed=1), seed=1, log=lambda message: None)
    artifact.write(tmp_path / "a", synthetic_run.contents)
    artifact.write(tmp_path / "b", again.contents)
    files = [path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()]
    _, different, missing = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)
    assert len(files) == 9 and not different and not missing


def test_a_folder_of_something_else_is_left_alone(synthetic_run: Experiment, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other"):
        artifact.write(tmp_path, synthetic_run.contents)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("golden.jsonl", '"logit": -', '"logit": ', "SHA-256"),
        ("feature_spec.json", '"contract_version": 1', '"contract_version": 2', "contract version 2"),
        ("feature_spec.json", '"row_offset": 0', '"row_offset": 5', "overlap"),
        ("feature_spec.json", '"name": "headline"', '"name": "headlines"', "ids are"),
        ("feature_spec.json", '"op": "log1p"', '"op": "clip", "min": 0, "max": 9', "dense differs"),
        ("feature_spec.json", '"dtype": "int64"', '"dtype": "int32"', "session's inputs"),
    ],
)
def test_a_broken_version_is_refused(
    committed_artifact: Path, tmp_path: Path, file: str, old: str, new: str, problem: str
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(committed_artifact, broken)
    text = (broken / file).read_text(encoding="utf-8")
    assert old in text
    (broken / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ArtifactError, match=problem):
        check_artifact(broken)


def test_a_stray_or_absent_file_is_refused(committed_artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(committed_artifact, broken)
    (broken / "stray.txt").write_text("?")
    with pytest.raises(ArtifactError, match="no hash"):
        check_artifact(broken)
    (broken / "stray.txt").rename(broken / "vocab" / "week.jsonl")
    with pytest.raises(ArtifactError, match="week"):
        check_artifact(broken)


def test_the_committed_version_passes(committed_artifact: Path) -> None:
    found = check_artifact(committed_artifact)
    assert found.golden_rows >= 12
    assert found.logit_difference <= 1e-6


def test_report_and_pictures(synthetic_run: Experiment, tmp_path: Path) -> None:
    report.write_json(tmp_path / "report.json", [synthetic_run])
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["runs"][0]["parts"]["test"]["deepfm"]["auc"] == synthetic_run.evaluations["test"].quality.auc
    assert "AUC" in report.table([synthetic_run], {"test": "warm", "cold_test": "cold"})
    plots.calibration(tmp_path / "calibration.png", synthetic_run)
    plots.coverage(tmp_path / "coverage.png", [synthetic_run])
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("calibration.png", "coverage.png"))
