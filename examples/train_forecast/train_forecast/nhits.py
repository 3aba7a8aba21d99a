"""A small N-HiTS (Challu et al., 2023, arXiv:2201.12886) for quantiles in numpy, with hand-written gradients.

Each block sees what the blocks before it left of the window, averaged over `pool` hours, and gives knots at a rate of
its own: the backcast's are interpolated to the window and taken off it, the forecast's to the horizon and added up.
Beside the paper: average in place of max pooling, a mask of what is missing, and a row of knots for each quantile.

Scaling is part of the network: it takes raw values and gives raw values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """`pools` has the hours that each block averages, coarse to fine; each divides context and horizon."""

    context: int
    horizon: int
    quantiles: tuple[float, ...]
    pools: tuple[int, ...] = (12, 4, 1)
    hidden: int = 64


class Nhits:
    """Everything follows the dtype of the parameters, so that tests can check gradients in float64."""

    def __init__(self, shape: Shape, parameters: Parameters) -> None:
        self.shape = shape
        self.parameters = parameters
        dtype = parameters["in_0"].dtype
        self.to_context = [interpolation(shape.context // k, shape.context).astype(dtype) for k in shape.pools]
        self.to_horizon = [interpolation(shape.horizon // k, shape.horizon).astype(dtype) for k in shape.pools]

    @classmethod
    def initialise(cls, shape: Shape, rng: np.random.Generator) -> Nhits:
        """Layers as wide as their inputs are many; forecasts begin near the window's mean."""
        p: Parameters = {}
        for block, pool in enumerate(shape.pools):
            sizes = [2 * shape.context // pool, shape.hidden, shape.hidden]
            for name, fan_in, width in (("in", sizes[0], sizes[1]), ("mid", sizes[1], sizes[2])):
                p[f"{name}_{block}"] = (rng.normal(0, np.sqrt(2 / fan_in), (fan_in, width))).astype(np.float32)
                p[f"{name}_bias_{block}"] = np.zeros(width, np.float32)
            outputs = {"forecast": shape.horizon // pool * len(shape.quantiles)}
            if block + 1 < len(shape.pools):
                outputs["backcast"] = shape.context // pool
            for name, width in outputs.items():
                p[f"{name}_{block}"] = rng.normal(0, 0.05 / np.sqrt(shape.hidden), (shape.hidden, width)).astype(
                    np.float32
                )
                p[f"{name}_bias_{block}"] = np.zeros(width, np.float32)
        return cls(shape, p)

    def forecast(self, context: np.ndarray) -> np.ndarray:
        """Quantiles [rows, horizon, quantiles] of raw windows [rows, context], NaN where a value is missing."""
        x, mask, mean, scale = standardize(context.astype(self.parameters["in_0"].dtype))
        return mean[:, :, None] + scale[:, :, None] * self._forward(x, mask).output

    def loss_and_gradients(self, context: np.ndarray, target: np.ndarray) -> tuple[float, Parameters]:
        """Mean pinball loss over what is known of `target`, in units of each window's scale, and its gradients."""
        dtype = self.parameters["in_0"].dtype
        x, mask, mean, scale = standardize(context.astype(dtype))
        state = self._forward(x, mask)
        known = np.isfinite(target)[:, :, None]
        scaled = np.where(known[:, :, 0], (target.astype(dtype) - mean) / scale, 0)[:, :, None]
        probabilities = np.array(self.shape.quantiles, dtype)
        error = scaled - state.output
        count = known.sum() * len(probabilities)
        loss = np.where(known, np.maximum(probabilities * error, (probabilities - 1) * error), 0).sum() / count
        slope = np.where(known, np.where(error > 0, -probabilities, 1 - probabilities), 0) / count
        return float(loss), self._backward(state, mask, slope.astype(dtype))

    def _forward(self, x: np.ndarray, mask: np.ndarray) -> _State:
        p, rows = self.parameters, len(x)
        state = _State(np.zeros((rows, self.shape.horizon, len(self.shape.quantiles)), x.dtype), [], [], [])
        rest = x
        for block, pool in enumerate(self.shape.pools):
            seen = np.concatenate([average(rest, pool), average(mask, pool)], axis=1)
            first = np.maximum(seen @ p[f"in_{block}"] + p[f"in_bias_{block}"], 0)
            second = np.maximum(first @ p[f"mid_{block}"] + p[f"mid_bias_{block}"], 0)
            knots = (second @ p[f"forecast_{block}"] + p[f"forecast_bias_{block}"]).reshape(
                rows, -1, len(self.shape.quantiles)
            )
            state.output += self.to_horizon[block].T @ knots
            if f"backcast_{block}" in p:
                backcast = second @ p[f"backcast_{block}"] + p[f"backcast_bias_{block}"]
                rest = (rest - backcast @ self.to_context[block]) * mask
            state.seen.append(seen)
            state.first.append(first)
            state.second.append(second)
        return state

    def _backward(self, state: _State, mask: np.ndarray, d_output: np.ndarray) -> Parameters:
        p, rows = self.parameters, len(mask)
        gradients: Parameters = {}
        d_rest = np.zeros_like(mask)
        for block in reversed(range(len(self.shape.pools))):
            pool = self.shape.pools[block]
            first, second = state.first[block], state.second[block]
            d_knots = (self.to_horizon[block] @ d_output).reshape(rows, -1)
            gradients |= layer(f"forecast_{block}", f"forecast_bias_{block}", second, d_knots)
            d_second = d_knots @ p[f"forecast_{block}"].T
            if f"backcast_{block}" in p:
                d_rest = d_rest * mask
                d_backcast = -d_rest @ self.to_context[block].T
                gradients |= layer(f"backcast_{block}", f"backcast_bias_{block}", second, d_backcast)
                d_second += d_backcast @ p[f"backcast_{block}"].T
            d_second *= second > 0
            gradients |= layer(f"mid_{block}", f"mid_bias_{block}", first, d_second)
            d_first = (d_second @ p[f"mid_{block}"].T) * (first > 0)
            gradients |= layer(f"in_{block}", f"in_bias_{block}", state.seen[block], d_first)
            d_seen = (d_first @ p[f"in_{block}"].T)[:, : self.shape.context // pool]
            d_rest = d_rest + np.repeat(d_seen, pool, axis=1) / pool
        return gradients


@dataclass
class _State:
    """What the backward pass needs of the forward pass, by block."""

    output: np.ndarray
    seen: list[np.ndarray]
    first: list[np.ndarray]
    second: list[np.ndarray]


def standardize(context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The window with mean 0 and deviation 1, its mask of what is there, and mean and deviation, [rows, 1] each.

    The deviation of a steady series is taken as a thousandth of its mean, so that nothing is divided by zero.
    """
    missing = np.isnan(context)
    mask = (~missing).astype(context.dtype)
    count = mask.sum(axis=1, keepdims=True)
    mean = np.where(missing, 0, context).sum(axis=1, keepdims=True) / count
    centred = np.where(missing, 0, context - mean)
    variance = (centred**2).sum(axis=1, keepdims=True) / count
    scale = np.sqrt(variance + (mean * 1e-3) ** 2 + 1e-12).astype(context.dtype)
    return centred / scale, mask, mean, scale


def average(values: np.ndarray, pool: int) -> np.ndarray:
    """Means of each `pool` columns."""
    return values.reshape(len(values), -1, pool).mean(axis=2)


def interpolation(knots: int, length: int) -> np.ndarray:
    """[knots, length]: straight lines between knots in the middle of equal parts, flat before the first."""
    at = (np.arange(length) + 0.5) * knots / length - 0.5
    return np.array([np.interp(at, np.arange(knots), row) for row in np.eye(knots)])


def layer(weight: str, bias: str, inputs: np.ndarray, d_outputs: np.ndarray) -> Parameters:
    """Gradients of an affine layer."""
    return {weight: inputs.T @ d_outputs, bias: d_outputs.sum(axis=0)}
