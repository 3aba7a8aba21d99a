"""Prophet and MLflow: fits, saves as MLflow does, and says what Prophet itself forecasts."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas
import prophet
from demo_ctr.errors import DemoError

from fit_prophet import series
from fit_prophet.comparison import Forecast
from fit_prophet.series import Series

SAMPLES = 10_000
"""Of Prophet's simulation; with the usual 1,000 the ends of a 99 % interval are noise."""


REQUIREMENTS = [f"prophet=={prophet.__version__}"]


def bundled_series() -> Series:
    """The real series that Prophet's package brings: 510 daily prices of Facebook's share, 2012-05 to 2014-05."""
    return series.read(Path(prophet.__file__).parent / "tests" / "data.csv", "facebook-share-price")


def fit(past: Series, interval_width: float) -> prophet.Prophet:
    """Prophet's defaults, which choose the seasonalities by the series' length and step."""
    model = prophet.Prophet(interval_width=interval_width, uncertainty_samples=SAMPLES)
    model.fit(pandas.DataFrame({"ds": past.dates, "y": past.values}), seed=7)
    return model


def save(model: prophet.Prophet, directory: Path) -> None:
    """Writes the model version as `mlflow.prophet.log_model` logs it. What is there is replaced."""
    shutil.rmtree(directory, ignore_errors=True)
    _mlflow().prophet.save_model(model, str(directory), pip_requirements=REQUIREMENTS)


def register(model: prophet.Prophet, url: str, name: str) -> int:
    """Logs the fit to an MLflow server as a new version of `name`, which becomes its champion; the version."""
    mlflow = _mlflow()
    mlflow.set_tracking_uri(url)
    try:
        logged = mlflow.prophet.log_model(model, name=name, registered_model_name=name, pip_requirements=REQUIREMENTS)
        version = int(logged.registered_model_version)
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", str(version))
    except mlflow.MlflowException as error:
        raise DemoError(f"MLflow at {url}: {error}") from error
    return version


def _mlflow() -> ModuleType:
    """Imported when it is needed, and quietly: it takes seconds and warns of what is not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.prophet
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return mlflow


def forecast(model: prophet.Prophet, dates: np.ndarray, seed: int) -> Forecast:
    """Prophet's own answer for these dates."""
    # Prophet draws from the global generator.
    np.random.seed(seed)
    answer = model.predict(pandas.DataFrame({"ds": dates}))
    return Forecast(*(answer[name].to_numpy(dtype=float) for name in ("yhat", "yhat_lower", "yhat_upper")))
