"""Asks the server: the forecast of some dates, and which of their values are abnormal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from demo_ctr.errors import DemoError
from demo_ctr.stubs import Stubs
from numpy.typing import NDArray

from fit_prophet.comparison import Forecast
from fit_prophet.series import Series

DEADLINE_SECONDS = 10.0


@dataclass(frozen=True)
class Answers:
    """`alerts` are row numbers at which an event begins; `p_values` are float64 [rows]."""

    version: int
    method: str
    forecast: Forecast
    alerts: list[int]
    p_values: NDArray[np.float64]


def ask(address: str, stubs: Stubs, model: str, series: Series, interval_width: float) -> Answers:
    """One forecast and one judgement of all rows of `series`. Raises DemoError if the server refuses."""
    times = series.dates.astype("datetime64[us]").astype(np.int64).tolist()
    selector = stubs.model.ModelSelector(name=model)
    with grpc.insecure_channel(address) as channel:
        try:
            answer = stubs.forecast_grpc.ForecastServiceStub(channel).Forecast(
                stubs.forecast.ForecastRequest(
                    model=selector,
                    dates=stubs.forecast.ForecastDates(unix_micros=times),
                    interval_width=interval_width,
                ),
                timeout=DEADLINE_SECONDS,
            )
            judged = stubs.anomaly_grpc.AnomalyServiceStub(channel).DetectAnomalies(
                stubs.anomaly.DetectAnomaliesRequest(
                    points=[
                        stubs.anomaly.SeriesPoint(unix_micros=time, value=value)
                        for time, value in zip(times, series.values.tolist(), strict=True)
                    ],
                    by_model=stubs.anomaly.ModelJudge(model=selector, interval_width=interval_width),
                ),
                timeout=DEADLINE_SECONDS,
            )
        except grpc.RpcError as error:
            raise DemoError(f"the server answered {error.code().name}: {error.details()}") from error
    return _read(stubs, answer, judged)


def _read(stubs: Stubs, answer: Any, judged: Any) -> Answers:
    lower, upper = (np.array(quantile.values) for quantile in answer.quantiles)
    return Answers(
        version=answer.model.version,
        method=stubs.forecast.ForecastMethod.Name(answer.method).removeprefix("FORECAST_METHOD_").lower(),
        forecast=Forecast(np.array(answer.yhat), lower, upper),
        alerts=[reading.index for reading in judged.readings if reading.alert],
        p_values=np.array([reading.p_value for reading in judged.readings]),
    )
