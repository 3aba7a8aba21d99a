"""Fitting and coverage on simulated units whose true variance is known."""

import numpy as np
import pytest
from train_ctr import variance
from train_ctr.coverage import cluster_standard_error, predictive_coverage, predictive_steps, raw_share
from train_ctr.deepfm import Batch
from train_ctr.interval import median_logit
from train_ctr.layout import FieldRows, TableLayout
from train_ctr.variance import UnitOutcomes, by_unit


def simulate(logit: np.ndarray, spread: np.ndarray, impressions: int, rng: np.random.Generator) -> np.ndarray:
    """Clicks of units whose log-odds scatter around the median with variance `spread`."""
    truth = median_logit(logit, spread) + np.sqrt(spread) * rng.standard_normal(len(logit))
    return rng.binomial(impressions, 1 / (1 + np.exp(-truth))).astype(float)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("impressions", [40, 4000])
def test_coverage_of_the_true_variance_is_the_level(level: float, impressions: int) -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(-4, 0.5, 2000)
    spread = np.full(2000, 0.15)
    units = UnitOutcomes(logit, spread, simulate(logit, spread, impressions, rng), np.full(2000, float(impressions)))
    covered = predictive_coverage(predictive_steps(units), level)
    assert covered.mean() == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 2000))


def test_a_variance_too_small_covers_too_little_and_noise_lowers_the_raw_share() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(-4, 0.5, 1000)
    clicks = simulate(logit, np.full(1000, 0.2), 3000, rng)
    impressions = np.full(1000, 3000.0)
    honest = UnitOutcomes(logit, np.full(1000, 0.2), clicks, impressions)
    overconfident = UnitOutcomes(logit, np.full(1000, 0.02), clicks, impressions)
    assert predictive_coverage(predictive_steps(overconfident), 0.9).mean() < 0.75
    assert raw_share(honest, 0.9) < predictive_coverage(predictive_steps(honest), 0.9).mean()


def test_the_fit_finds_the_variance_of_known_and_unknown_ids() -> None:
    rng = np.random.default_rng(2)
    layout = TableLayout((FieldRows("ad", 0, 3, (0,)),), table_rows=3, dense_columns=0)
    ids = rng.choice([1, 2], (3000, 1))
    spread = np.where(ids[:, 0] == 1, 0.30, 0.05)
    logit = rng.normal(-3.5, 0.3, 3000)
    rows = Batch(ids, np.zeros((3000, 0)), simulate(logit, spread, 4000, rng), np.full(3000, 4000.0))
    fitted = variance.fit(layout, np.array([0.0, 0.0, 500.0]), rows, logit, np.arange(3000), ["ad"])
    found = fitted.logit_variance(layout, np.array([0.0, 0.0, 500.0]), np.array([[1], [2]]))
    assert found == pytest.approx([0.30, 0.05], rel=0.12)


def test_rows_of_a_unit_are_added_up() -> None:
    rows = Batch(np.zeros((3, 1), np.int64), np.zeros((3, 0)), np.array([1.0, 0.0, 2.0]), np.array([10.0, 30.0, 5.0]))
    units = by_unit(np.log([0.25, 0.25, 1.0]), np.array([0.1, 0.3, 0.2]), rows, np.array([0, 0, 1]))
    assert units.clicks.tolist() == [1, 2]
    assert units.impressions.tolist() == [40, 5]
    assert units.logit == pytest.approx(np.log([0.25, 1.0]))
    assert units.variance == pytest.approx([0.25, 0.2])


def test_clusters_that_agree_within_themselves_widen_the_error() -> None:
    values = np.repeat(np.random.default_rng(3).integers(0, 2, 100), 10).astype(float)
    alone = cluster_standard_error(values, np.arange(1000), seed=0)
    together = cluster_standard_error(values, np.repeat(np.arange(100), 10), seed=0)
    assert alone == pytest.approx(0.5 / np.sqrt(1000), rel=0.15)
    assert together == pytest.approx(0.5 / np.sqrt(100), rel=0.15)


@pytest.mark.parametrize(("impressions", "spread"), [(5, 0.5), (300, 0.001), (4000, 0.3), (200_000, 4.0)])
def test_the_likelihood_agrees_with_a_fine_grid(impressions: int, spread: float) -> None:
    clicks = np.array([0.0, impressions // 50, impressions // 3])
    logit, variances = np.full(3, -4.0), np.full(3, spread)
    found = variance.negative_log_likelihood(UnitOutcomes(logit, variances, clicks, np.full(3, float(impressions))))

    centre = median_logit(logit, variances)[0]
    x = np.linspace(centre - 12 * np.sqrt(spread), centre + 12 * np.sqrt(spread), 400_001)
    density = np.exp(-((x - centre) ** 2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)
    wanted = 0.0
    for k in clicks:
        log_binomial = k * x - impressions * np.logaddexp(0, x)
        peak = log_binomial.max()
        wanted -= peak + np.log((np.exp(log_binomial - peak) * density).sum() * (x[1] - x[0]))
    assert found == pytest.approx(wanted, rel=1e-4)
