"""Adam with early stopping, the same loop for DeepFM and for the linear baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from train_ctr.deepfm import Batch, DeepFM, Parameters, Regularization
from train_ctr.layout import TableLayout
from train_ctr.linear import Linear
from train_ctr.metrics import log_loss

PREDICT_ROWS = 8192


@dataclass(frozen=True)
class Settings:
    """Hyperparameters. `id_dropout` is the share of a field's ids hidden as unknown while training."""

    factors: int = 8
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2
    l2: float = 1e-3
    learning_rate: float = 3e-3
    batch_rows: int = 256
    max_epochs: int = 60
    patience: int = 5
    id_dropout: Mapping[str, float] = field(default_factory=dict)


class Adam:
    """Kingma & Ba, 2015, arXiv:1412.6980, with the usual decay rates; updates parameters in place."""

    def __init__(self, parameters: Parameters, learning_rate: float) -> None:
        self._parameters = parameters
        self._rate = learning_rate
        self._mean = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._square = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._steps = 0

    def step(self, gradients: Parameters) -> None:
        self._steps += 1
        rate = self._rate * np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for name, gradient in gradients.items():
            mean, square = self._mean[name], self._square[name]
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            parameter = self._parameters[name]
            parameter -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(parameter.dtype)


def fit(
    model: DeepFM | Linear,
    train: Batch,
    validation: Batch,
    settings: Settings,
    rng: np.random.Generator,
    progress: Callable[[int, float], None],
) -> int:
    """Trains `model` in place, keeps the epoch with the lowest validation log loss and returns its number.

    `progress` is called after each epoch with its number and validation log loss.
    """
    regularization = Regularization(settings.l2, settings.dropout, float(train.clicks.mean()))
    adam = Adam(model.parameters, settings.learning_rate)
    best_loss, best_epoch, best = np.inf, 0, {}
    for epoch in range(1, settings.max_epochs + 1):
        order = rng.permutation(len(train))
        for start in range(0, len(order), settings.batch_rows):
            batch = train.take(order[start : start + settings.batch_rows])
            batch = hide_ids(batch, model.layout, settings.id_dropout, rng)
            adam.step(model.loss_and_gradients(batch, regularization, rng)[1])
        loss = log_loss(predict(model, validation), validation.clicks, validation.impressions)
        progress(epoch, loss)
        if loss < best_loss - 1e-6:
            best_loss, best_epoch = loss, epoch
            best = {name: value.copy() for name, value in model.parameters.items()}
        elif epoch - best_epoch >= settings.patience:
            break
    model.parameters.update(best)
    return best_epoch


def hide_ids(batch: Batch, layout: TableLayout, shares: Mapping[str, float], rng: np.random.Generator) -> Batch:
    """Replaces a random share of ids by the unknown row, so that this row is trained."""
    ids = batch.ids.copy()
    for name, share in shares.items():
        target = layout.field(name)
        hidden = rng.random(len(batch)) < share
        ids[np.ix_(np.flatnonzero(hidden), list(target.slots))] = target.unknown_row
    return Batch(ids, batch.dense, batch.clicks, batch.impressions)


def predict(model: DeepFM | Linear, rows: Batch) -> np.ndarray:
    """Log-odds of each row, float64 [rows]."""
    parts = [
        model.logits(rows.ids[start : start + PREDICT_ROWS], rows.dense[start : start + PREDICT_ROWS])
        for start in range(0, len(rows), PREDICT_ROWS)
    ]
    return np.concatenate(parts).astype(np.float64)
