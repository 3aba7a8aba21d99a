"""Fit small Prophet models and write what Prophet answers, as reference cases for the engine's own evaluator."""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from prophet import Prophet
from prophet.serialize import model_from_json, model_to_json

RUNS = 60


def series(days: int, seed: int, start: str = "2022-01-03", freq: str = "D") -> pd.DataFrame:
    """A trend with a break, a weekly pattern and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(days)
    trend = 50 + 0.1 * t + 0.15 * np.maximum(t - days // 2, 0)
    y = trend + 5 * np.sin(2 * np.pi * t / 7) + rng.normal(0, 2, days)
    return pd.DataFrame({"ds": pd.date_range(start, periods=days, freq=freq), "y": y.round(3)})


def ahead(frame: pd.DataFrame, days: int, freq: str = "D") -> pd.DataFrame:
    return pd.DataFrame({"ds": pd.date_range(frame.ds.max(), periods=days + 1, freq=freq)[1:]})


def daily() -> tuple[Prophet, pd.DataFrame]:
    frame = series(500, 1)
    return Prophet(yearly_seasonality=10).fit(frame), ahead(frame, 30)


def long_horizon() -> tuple[Prophet, pd.DataFrame]:
    frame = series(90, 2)
    return Prophet(changepoint_prior_scale=0.5).fit(frame), ahead(frame, 120)


def little_noise() -> tuple[Prophet, pd.DataFrame]:
    """Drift that dwarfs the noise, which the inversion on the real axis finds hard."""
    frame = series(60, 3)
    frame["y"] = np.round(20 + 0.5 * np.arange(60) + np.where(np.arange(60) > 30, 2.0, 0.0), 6)
    model = Prophet(weekly_seasonality=False, changepoint_prior_scale=5).fit(frame)
    model.params["sigma_obs"] = model.params["sigma_obs"] * 0 + 1e-7
    return model, ahead(frame, 80)


def effects() -> tuple[Prophet, pd.DataFrame]:
    """Regressors of both modes, holidays with windows, a country, a conditional seasonality; rows out of order."""
    frame = series(120, 4, "2022-10-03")
    rows = pd.concat([frame, ahead(frame, 40)], ignore_index=True)
    rng = np.random.default_rng(5)
    rows["spend"] = rng.gamma(3, 10, len(rows)).round(2)
    rows["promo"] = (rng.random(len(rows)) < 0.2).astype(float)
    rows["busy"] = rows.ds.dt.day_of_week < 5
    own = {"ds": ["2022-11-25", "2023-02-14"], "lower_window": -2, "upper_window": 11}
    holidays = pd.concat(
        [
            pd.DataFrame({"holiday": "sale", **own}),
            pd.DataFrame({"holiday": "Été", "ds": ["2022-12-05", "2023-02-20"]}),
        ]
    )
    model = Prophet(holidays=holidays, holidays_mode="multiplicative", weekly_seasonality=False, interval_width=0.9)
    model.add_country_holidays("DE")
    model.add_seasonality("busy_week", period=7, fourier_order=2, condition_name="busy")
    model.add_seasonality("monthly", period=30.5, fourier_order=3, mode="multiplicative")
    model.add_regressor("spend").add_regressor("promo", mode="multiplicative")
    frame = frame.merge(rows[["ds", "spend", "promo", "busy"]], on="ds")
    return model.fit(frame), rows.iloc[100:].drop(columns="y").sample(frac=1, random_state=6)


def saturating() -> tuple[Prophet, pd.DataFrame]:
    frame = series(100, 7)
    frame["cap"], frame["floor"] = 120.0, 20.0
    future = ahead(frame, 30)
    future["cap"], future["floor"] = np.linspace(120, 150, 30).round(2), 20.0
    return Prophet(growth="logistic", n_changepoints=8).fit(frame), future


def flat_minmax() -> tuple[Prophet, pd.DataFrame]:
    frame = series(80, 8)
    model = Prophet(growth="flat", scaling="minmax", seasonality_mode="multiplicative", uncertainty_samples=200)
    return model.fit(frame), ahead(frame, 20)


def hourly() -> tuple[Prophet, pd.DataFrame]:
    frame = series(24 * 6, 9, "2023-03-01", "h")
    return Prophet(n_changepoints=0, daily_seasonality=4, weekly_seasonality=False).fit(frame), ahead(frame, 30, "h")


def draws() -> tuple[Prophet, pd.DataFrame]:
    frame = series(60, 10)
    model = Prophet(mcmc_samples=30, n_changepoints=5, uncertainty_samples=200)
    return model.fit(frame, show_progress=False, seed=11), ahead(frame, 15)


def points_only() -> tuple[Prophet, pd.DataFrame]:
    frame = series(30, 12)
    return Prophet(uncertainty_samples=0, weekly_seasonality=False).fit(frame), ahead(frame, 1)


CASES: list[Callable[[], tuple[Prophet, pd.DataFrame]]] = [
    daily,
    long_horizon,
    little_noise,
    effects,
    saturating,
    flat_minmax,
    hourly,
    draws,
    points_only,
]


def bands(model: Prophet, future: pd.DataFrame) -> dict:
    """Percentiles of many simulations, and where another simulation must lie."""
    names = ["yhat_lower", "yhat_upper", "trend_lower", "trend_upper"]
    tails = [50 * (1 - model.interval_width), 50 * (1 + model.interval_width)] * 2
    runs, pooled = {name: [] for name in names}, {"yhat": [], "trend": []}
    for seed in range(RUNS):
        np.random.seed(seed)
        values = model.predictive_samples(future)
        for name, tail in zip(names, tails, strict=True):
            runs[name].append(np.percentile(values[name.split("_")[0]], tail, axis=1))
        for key, all_values in pooled.items():
            all_values.append(values[key])
    columns = {}
    for name, tail in zip(names, tails, strict=True):
        percentiles = np.array(runs[name])
        spread = percentiles.std(axis=0, ddof=1)
        if model.growth == "logistic" or model.mcmc_samples:
            centre = percentiles.mean(axis=0)
        else:
            centre = np.percentile(np.hstack(pooled[name.split("_")[0]]), tail, axis=1)
        error = 6 * spread * np.sqrt(2 / RUNS)
        columns[name] = {
            "tight": [rounded(centre - error), rounded(centre + error)],
            "loose": [rounded(centre - 6 * spread), rounded(centre + 6 * spread)],
        }
    return {"runs": RUNS, "columns": columns}


def rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.10g}") for value in values]


def write(make: Callable[[], tuple[Prophet, pd.DataFrame]], root: Path) -> None:
    fitted, future = make()
    text = model_to_json(fitted)
    model = model_from_json(text)
    np.random.seed(0)
    answer = model.predict(future)
    simulated = {"yhat_lower", "yhat_upper", "trend_lower", "trend_upper"}
    given = {"ds", "cap", "floor"} | simulated
    expected = {
        "made_with": "prophet 1.5.0",
        "y_scale": model.y_scale,
        "interval_width": model.interval_width,
        "uncertainty_samples": model.uncertainty_samples,
        "draws": len(model.params["k"]),
        "ds": answer.ds.dt.strftime("%Y-%m-%dT%H:%M:%S").tolist(),
        "exact": {name: answer[name].tolist() for name in answer if name not in given},
        "monte_carlo": bands(model, future) if model.uncertainty_samples else None,
    }
    columns = {name: future[name].tolist() for name in future if name != "ds"}
    columns["ds"] = future.ds.dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()
    folder = root / "cases" / make.__name__
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(text) if make is effects else text)
    (folder / "future.json").write_text(json.dumps({"columns": columns}))
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))
    print(f"{make.__name__}: {len(future)} rows, {sum(file.stat().st_size for file in folder.iterdir())} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder that gets cases/<name>/{model,future,expected}.json")
    parser.add_argument("--only", help="write this case only")
    arguments = parser.parse_args()
    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    for make in CASES:
        if arguments.only in (None, make.__name__):
            write(make, arguments.out)


if __name__ == "__main__":
    main()
