"""Metrics and baselines against values worked out by hand."""

import numpy as np
import pytest
from train_forecast import baselines, comparison, metrics
from train_forecast.comparison import Score
from train_forecast.series import Series
from train_forecast.windows import HORIZON

PROBABILITIES = (0.1, 0.5, 0.9)


def test_metrics_leave_missing_values_out() -> None:
    target = np.array([[10.0, np.nan]])
    quantiles = np.array([[[8.0, 9.0, 12.0], [0.0, 0.0, 0.0]]])
    assert metrics.pinball(target, quantiles, PROBABILITIES)[0] == pytest.approx((0.2 + 0.5 + 0.2) / 3)
    # Crossing quantiles are sorted first, as they are when they are served.
    assert metrics.pinball(target, quantiles[:, :, ::-1], PROBABILITIES)[0] == pytest.approx(0.3)
    assert metrics.absolute_error(target, quantiles[:, :, 1])[0] == 1
    assert metrics.covered(target, quantiles[:, :, 0], quantiles[:, :, 2])[0] == 1
    assert metrics.covered(target, quantiles[:, :, 0], quantiles[:, :, 1])[0] == 0
    assert metrics.naive_error(np.array([1.0, 2.0, 4.0, np.nan, 9.0]), 2) == pytest.approx((3 + 5) / 2)


def test_the_seasonal_naive_sees_the_past_only_and_skips_what_is_missing() -> None:
    values = np.arange(24 * 12, dtype=float)
    values[24 * 9 + 3] = np.nan
    values[24 * 10 :] = 1e9
    forecast = baselines.seasonal_naive(baselines.DAY, PROBABILITIES)(Series("s", "real", 0, values), 24 * 10)
    assert forecast.shape == (HORIZON, len(PROBABILITIES))
    point = np.arange(24 * 9, 24 * 10, dtype=float)
    point[3] -= 24
    np.testing.assert_array_equal(forecast[:, 1], point)
    # From day to day it was always wrong by 24.
    np.testing.assert_array_equal(forecast[:, 0], point + 24)


def test_every_forecaster_gets_the_same_windows_and_the_better_one_wins() -> None:
    day = np.sin(np.arange(24) / 24 * 2 * np.pi)
    series = [Series(name, "real", 0, np.tile(day, 40) + np.repeat(np.arange(40) % 2, 24)) for name in ("a", "b")]
    truth = lambda one, origin: np.repeat(one.values[origin : origin + HORIZON, None], 3, axis=1)  # noqa: E731
    forecasters = {"truth": truth, "naive": baselines.seasonal_naive(baselines.DAY, PROBABILITIES)}
    scores = comparison.compare(series, forecasters, PROBABILITIES, lambda message: None)
    groups = comparison.by_group(scores)
    assert {key: len(found) for key, found in groups.items()} == {
        (group, name): 16 for group in ("real", "all") for name in forecasters
    }
    assert all(score.pinball == 0 and score.covered == 1 for score in groups["all", "truth"])
    assert np.mean([score.mase for score in groups["all", "naive"]]) == pytest.approx(1)
    assert comparison.wins(scores, "truth") == "lower pinball loss than naive on 2 of 2 series"
    assert "| all | truth | 16 | 0.000 | 0.000 | 100.0% |" in comparison.table(groups, "80 % interval")


def test_a_tie_is_no_win() -> None:
    scores = [Score("g", "s", name, 1.0, 1.0, 1.0) for name in ("x", "y")]
    assert comparison.wins(scores, "x") == "lower pinball loss than y on 0 of 1 series"
