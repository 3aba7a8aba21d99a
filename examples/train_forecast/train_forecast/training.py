"""Adam, with the weights averaged over the last few hundred steps, and early stopping on the validation windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from train_ctr.training import Adam

from train_forecast.metrics import pinball
from train_forecast.nhits import Nhits, standardize
from train_forecast.windows import Windows, spoil


@dataclass(frozen=True)
class Settings:
    """An epoch is `steps` batches of `batch_rows` windows; `averaging` is the newest weights' share of the average."""

    learning_rate: float = 1e-3
    batch_rows: int = 256
    steps: int = 100
    max_epochs: int = 80
    patience: int = 10
    averaging: float = 0.005


def fit(
    model: Nhits,
    training: list[Windows],
    validation: list[Windows],
    settings: Settings,
    rng: np.random.Generator,
    progress: Callable[[int, float], None],
) -> int:
    """Trains `model` in place, keeps the average weights (Polyak and Juditsky, 1992) of the best epoch and returns its
    number.

    Windows come by series: each series is drawn as often as the root of its windows says, and weighs the same in the
    validation loss, so that the long ones do not drown the others.
    """
    weights = np.sqrt([len(windows) for windows in training])
    adam = Adam(model.parameters, settings.learning_rate)
    average = Nhits(model.shape, {name: value.copy() for name, value in model.parameters.items()})
    best_loss, best_epoch, best = np.inf, 0, {}
    for epoch in range(1, settings.max_epochs + 1):
        for _ in range(settings.steps):
            counts = rng.multinomial(settings.batch_rows, weights / weights.sum())
            rows = [rng.integers(0, len(windows), count) for windows, count in zip(training, counts, strict=True)]
            context = np.concatenate([w.context[r] for w, r in zip(training, rows, strict=True)])
            target = np.concatenate([w.target[r] for w, r in zip(training, rows, strict=True)])
            adam.step(model.loss_and_gradients(spoil(context, rng), target)[1])
            for name, value in average.parameters.items():
                value += settings.averaging * (model.parameters[name] - value)
        loss = float(np.mean([validation_loss(average, windows) for windows in validation]))
        progress(epoch, loss)
        if loss < best_loss - 1e-5:
            best_loss, best_epoch = loss, epoch
            best = {name: value.copy() for name, value in average.parameters.items()}
        elif epoch - best_epoch >= settings.patience:
            break
    model.parameters.update(best)
    return best_epoch


def validation_loss(model: Nhits, windows: Windows) -> float:
    """Mean pinball loss in units of each window's scale."""
    *_, scale = standardize(windows.context)
    losses = pinball(windows.target, model.forecast(windows.context), model.shape.quantiles)
    return float(np.nanmean(losses / scale[:, 0]))
