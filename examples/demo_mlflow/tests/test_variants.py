"""Versions made from a trained one, and the faults of broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from demo_mlflow import broken, variants
from train_ctr.encoder import Encoder
from train_ctr.self_check import check_artifact
from train_ctr.session import Session

COMMITTED = Path(__file__).resolve().parents[3] / "models" / "ctr-upworthy" / "1"


def logits(encoder: Path, session: Path) -> np.ndarray:
    rows = [inputs for _, inputs in variants.read(COMMITTED).golden]
    return Session(session / "model.onnx").run(*Encoder.from_directory(encoder).encode(rows))[0]


@pytest.mark.parametrize("widen", [1, 16])
def test_scores_move_by_the_shift(tmp_path: Path, widen: int) -> None:
    variants.derive(COMMITTED, tmp_path / "2", shift=0.25, widen=widen)
    np.testing.assert_allclose(logits(tmp_path / "2", tmp_path / "2"), logits(COMMITTED, COMMITTED) + 0.25, atol=1e-5)
    assert (tmp_path / "2" / "model.onnx").stat().st_size > (600_000 if widen == 1 else 3_000_000)


def test_a_mix_of_two_versions_has_the_score_of_neither(tmp_path: Path) -> None:
    variants.derive(COMMITTED, tmp_path / "2", shift=0.25)
    first, second = logits(COMMITTED, COMMITTED), logits(tmp_path / "2", tmp_path / "2")
    known = 0  # The golden example of a known test, image and week.
    for mixed in (logits(COMMITTED, tmp_path / "2"), logits(tmp_path / "2", COMMITTED)):
        assert min(abs(mixed[known] - first[known]), abs(mixed[known] - second[known])) > 1e-3


@pytest.mark.parametrize("name", ["wrong signature: a feature is gone", "NaN output", "missing MLmodel"])
def test_some_faults_show_only_to_the_one_who_serves(tmp_path: Path, name: str) -> None:
    broken.make(COMMITTED, tmp_path / "3", broken.FAULTS[name])
    check_artifact(tmp_path / "3")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("truncated file", "model.onnx has SHA-256"),
        ("wrong signature: not the spec's", "outputs are"),
        ("golden mismatch", "logit differs"),
        ("external data outside the folder", "points outside"),
    ],
)
def test_other_faults_show_before_the_upload(tmp_path: Path, name: str, says: str) -> None:
    broken.make(COMMITTED, tmp_path / "3", broken.FAULTS[name])
    with pytest.raises(Exception, match=says):
        check_artifact(tmp_path / "3")
