"""When the server and Prophet agree."""

import numpy as np
from fit_prophet.comparison import TOLERANCE, Forecast, compare

YHAT = np.array([10.0, 20.0, 30.0])
VALUES = np.array([12.5, 20.0, 26.5])


def forecast(shift: float = 0.0, width: float = 3.0) -> Forecast:
    return Forecast(YHAT + shift, YHAT - width, YHAT + width)


def test_differences_of_the_forecast_decide_and_those_of_the_interval_do_not() -> None:
    found = compare(forecast(), forecast(width=2.0), VALUES, scale=30.0)
    assert found.agrees
    assert (found.yhat, found.bounds, found.mean_width) == (0.0, 1.0, 4.0)
    assert (found.engine_outside, found.prophet_outside, found.judged_differently) == (1, 2, 1)
    assert "they agree" in found.text()


def test_the_tolerance_is_a_share_of_the_series() -> None:
    shift = 40 * TOLERANCE
    assert not compare(forecast(shift), forecast(), VALUES, scale=30.0).agrees
    assert compare(forecast(shift), forecast(), VALUES, scale=50.0).agrees
    assert "THEY DISAGREE" in compare(forecast(shift), forecast(), VALUES, scale=30.0).text()
