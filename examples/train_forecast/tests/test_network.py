"""Gradients against finite differences, and the graph against the forward pass."""

from pathlib import Path

import numpy as np
import pytest
from train_forecast import artifact, nhits, onnx_graph
from train_forecast.nhits import Nhits, Shape

SHAPE = Shape(context=12, horizon=4, quantiles=(0.1, 0.5, 0.9), pools=(4, 2, 1), hidden=5)


def network(dtype: type) -> Nhits:
    model = Nhits.initialise(SHAPE, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    parameters = {name: rng.normal(0, 0.4, value.shape).astype(dtype) for name, value in model.parameters.items()}
    return Nhits(SHAPE, parameters)


def contexts(rows: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    context = 50 + 10 * rng.normal(size=(rows, SHAPE.context))
    context[rng.random(context.shape) < 0.2] = np.nan
    context[0, :9] = np.nan
    context[1] = 3.0
    return context


def test_gradients_match_finite_differences() -> None:
    model, context = network(np.float64), contexts(6)
    # Of a steady series the unit is so small that differences say nothing.
    context = np.delete(context, 1, axis=0)
    target = 50 + 10 * np.random.default_rng(3).normal(size=(5, SHAPE.horizon))
    target[2, 1:] = np.nan
    loss, gradients = model.loss_and_gradients(context, target)
    assert loss > 0
    assert gradients.keys() == model.parameters.keys()
    for name, value in model.parameters.items():
        for index in np.ndindex(value.shape):
            kept, step = value[index], 1e-6
            value[index] = kept + step
            above, _ = model.loss_and_gradients(context, target)
            value[index] = kept - step
            below, _ = model.loss_and_gradients(context, target)
            value[index] = kept
            assert gradients[name][index] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-7), name


def test_the_graph_is_the_network(tmp_path: Path) -> None:
    model, context = network(np.float32), contexts(40)
    (tmp_path / "model.onnx").write_bytes(onnx_graph.build(model).SerializeToString())
    runner = artifact.session(tmp_path / "model.onnx")
    together = artifact.run(runner, context)
    np.testing.assert_allclose(together, model.forecast(context), rtol=1e-4, atol=1e-3)
    alone = np.concatenate([artifact.run(runner, context[i : i + 1]) for i in range(len(context))])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)


def test_forecasts_follow_the_units_of_the_series() -> None:
    model, context = network(np.float64), contexts(40)
    context = np.delete(context, 1, axis=0)
    moved = model.forecast(1000 * context)
    np.testing.assert_allclose(moved, 1000 * model.forecast(context), rtol=1e-9)


def test_steady_series_are_forecast() -> None:
    model = network(np.float32)
    for value in (0.0, 5.0, 1e6):
        forecast = model.forecast(np.full((1, SHAPE.context), value))
        assert np.isfinite(forecast).all()
        assert np.abs(forecast - value).max() <= 0.05 * value + 1e-3


def test_knots_become_straight_lines() -> None:
    lines = nhits.interpolation(3, 6)
    np.testing.assert_allclose(lines.sum(axis=0), 1)
    np.testing.assert_allclose(np.array([0, 10, 20]) @ lines, [0, 2.5, 7.5, 12.5, 17.5, 20])
    np.testing.assert_allclose(nhits.interpolation(4, 4), np.eye(4))
