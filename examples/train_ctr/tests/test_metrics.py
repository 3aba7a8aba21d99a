import numpy as np
import pytest
from train_ctr.metrics import auc, auc_standard_error, calibration_bins, quality


def test_auc_counts_pairs_and_half_of_ties() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, 40).astype(float)
    impressions = rng.integers(1, 9, 40)
    clicks = rng.binomial(impressions, 0.4)
    clicked, unclicked = np.repeat(score, clicks), np.repeat(score, impressions - clicks)
    pairs = (clicked[:, None] > unclicked).mean() + 0.5 * (clicked[:, None] == unclicked).mean()
    assert auc(score, clicks, impressions) == pytest.approx(pairs)


def test_a_perfectly_calibrated_score_has_no_calibration_error() -> None:
    impressions = np.full(3000, 10_000.0)
    ctr = np.linspace(0.01, 0.05, 3000)
    logit = np.log(ctr / (1 - ctr))
    perfect = quality(logit, impressions * ctr, impressions)
    assert perfect.ece == pytest.approx(0, abs=1e-12)
    assert perfect.ne < 1
    doubled = quality(logit + np.log(2), impressions * ctr, impressions)
    assert doubled.relative_ece == pytest.approx(0.95, abs=0.06)
    assert doubled.auc == perfect.auc


def test_the_base_rate_alone_has_a_normalised_entropy_of_one() -> None:
    impressions = np.array([100.0, 300.0])
    clicks = np.array([10.0, 2.0])
    base = np.log(12 / 388)
    assert quality(np.full(2, base), clicks, impressions).ne == pytest.approx(1)


def test_bins_hold_equal_impressions() -> None:
    bins = calibration_bins(np.arange(1000.0), np.zeros(1000), np.ones(1000), 10)
    assert bins.impressions.tolist() == [100] * 10


def test_hanley_mcneil() -> None:
    # Worked by hand for AUC 0.5: variance = (1/4 + (m-1)/12 + (n-1)/12) / (m n).
    assert auc_standard_error(0.5, 10, 20) == pytest.approx(((0.25 + 9 / 12 + 19 / 12) / 200) ** 0.5)
