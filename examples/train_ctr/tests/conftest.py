"""Shared examples: the repository's test data and one run on the synthetic archive."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from train_ctr import upworthy
from train_ctr.experiment import Experiment, run

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def testdata() -> Path:
    return REPOSITORY / "domain" / "testdata"


@pytest.fixture(scope="session")
def committed_artifact() -> Path:
    return REPOSITORY / "models" / "ctr-upworthy" / "1"


@pytest.fixture(scope="session")
def synthetic_run() -> Experiment:
    return run(upworthy.dataset(synthetic.creatives(), seed=1), seed=1, log=lambda message: None)
