"""What a network has to beat: yesterday's values, last week's, and Prophet fitted anew at each origin."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from train_forecast.series import HOUR, Series
from train_forecast.windows import HORIZON

Forecaster = Callable[[Series, int], np.ndarray]
"""From a series and an origin to quantiles [HORIZON, probabilities]; it sees what is before the origin only."""

DAY, WEEK = 24, 168
ERRORS = 4 * WEEK
"""Hours before the origin whose errors make the seasonal naive's quantiles."""


def seasonal_naive(season: int, probabilities: Sequence[float]) -> Forecaster:
    """The value a season ago, or the last known at that hour of a season before; spread by its own late errors."""

    def forecast(series: Series, origin: int) -> np.ndarray:
        history = series.values[:origin]
        point = np.array([_last_known(history, origin + step, season) for step in range(HORIZON)])
        late = history[-(ERRORS + season) :]
        errors = late[season:] - late[:-season]
        errors = errors[np.isfinite(errors)]
        spread = np.quantile(errors, probabilities) if len(errors) else np.zeros(len(probabilities))
        # The point forecast is the value itself, whatever the errors' median is.
        spread = np.where(np.array(probabilities) == 0.5, 0, spread)
        return point[:, None] + spread

    return forecast


def _last_known(history: np.ndarray, hour: int, season: int) -> float:
    at = hour - season * (1 + (hour - len(history)) // season)
    while at >= 0:
        if np.isfinite(history[at]):
            return float(history[at])
        at -= season
    return float(np.nanmean(history))


def prophet(probabilities: Sequence[float], seed: int) -> Forecaster | None:
    """Prophet with its default settings on all of the history; None where the package is not installed."""
    try:
        import pandas
        from prophet import Prophet
    except ImportError:
        return None
    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    logging.getLogger("prophet").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)

    def forecast(series: Series, origin: int) -> np.ndarray:
        dates = pandas.to_datetime(series.start + HOUR * np.arange(origin + HORIZON), unit="s")
        history = pandas.DataFrame({"ds": dates[:origin], "y": series.values[:origin]})
        np.random.seed(seed)
        model = Prophet().fit(history, seed=seed)
        draws = model.predictive_samples(pandas.DataFrame({"ds": dates[origin:]}))["yhat"]
        return np.quantile(draws, probabilities, axis=1).T

    return forecast
