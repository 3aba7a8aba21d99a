"""DeepFM (Guo et al., 2017, arXiv:1703.04247) in numpy: forward pass, loss and hand-written gradients.

logit = bias + sum of first-order weights + sum over pairs of fields <e_i, e_j> + MLP(e, dense)

Everything follows the dtype of the parameters, so that tests can check gradients in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from train_ctr.layout import TableLayout

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """`ids` int64 [batch, slots], `dense` [batch, columns], `clicks` and `impressions` [batch]."""

    ids: NDArray[np.int64]
    dense: np.ndarray
    clicks: np.ndarray
    impressions: np.ndarray

    def __len__(self) -> int:
        return len(self.clicks)

    def take(self, rows: np.ndarray) -> Batch:
        return Batch(self.ids[rows], self.dense[rows], self.clicks[rows], self.impressions[rows])


@dataclass(frozen=True)
class Regularization:
    """`l2` on pooled embeddings, `dropout` on hidden units, `clicks_per_row` scales the loss to order 1."""

    l2: float
    dropout: float
    clicks_per_row: float


class DeepFM:
    """`parameters["table"]` is [table_rows, factors + 1]: embedding, then first-order weight."""

    def __init__(self, layout: TableLayout, factors: int, hidden: tuple[int, ...], parameters: Parameters) -> None:
        self.layout = layout
        self.factors = factors
        self.hidden = hidden
        self.parameters = parameters

    @classmethod
    def initialise(
        cls, layout: TableLayout, factors: int, hidden: tuple[int, ...], bias: float, rng: np.random.Generator
    ) -> DeepFM:
        """Small random embeddings, zero first-order weights; starts out predicting `bias` log-odds."""
        table = np.zeros((layout.table_rows, factors + 1), np.float32)
        table[:, :factors] = rng.normal(0, 0.01, (layout.table_rows, factors))
        table[layout.missing_rows] = 0
        parameters: Parameters = {"table": table, "dense_weight": np.zeros(layout.dense_columns, np.float32)}
        width = len(layout.fields) * factors + layout.dense_columns
        for index, units in enumerate(hidden):
            parameters[f"weight_{index}"] = _uniform(rng, width, (width, units))
            parameters[f"bias_{index}"] = np.zeros(units, np.float32)
            width = units
        parameters["out_weight"] = _uniform(rng, width, (width,))
        parameters["out_bias"] = np.array(bias, np.float32)
        return cls(layout, factors, hidden, parameters)

    def logits(self, ids: NDArray[np.int64], dense: np.ndarray) -> np.ndarray:
        """Log-odds of a click, [batch]."""
        return self._forward(ids, dense, dropout=0.0, rng=None).logit

    def loss_and_gradients(
        self, batch: Batch, regularization: Regularization, rng: np.random.Generator | None
    ) -> tuple[float, Parameters]:
        """Binomial negative log-likelihood per expected click plus L2, and its gradients.

        `rng` draws the dropout masks; it may be None when `dropout` is 0.
        """
        state = self._forward(batch.ids, batch.dense, regularization.dropout, rng)
        scale = 1 / (regularization.clicks_per_row * len(batch))
        nll = batch.impressions * np.logaddexp(0, state.logit) - batch.clicks * state.logit
        l2 = regularization.l2 / len(batch)
        loss = float(nll.sum() * scale + l2 * (state.embedding**2).sum())
        d_logit = (batch.impressions * expit(state.logit) - batch.clicks) * scale
        return loss, self._backward(batch, state, d_logit.astype(state.logit.dtype), l2)

    def _forward(
        self, ids: NDArray[np.int64], dense: np.ndarray, dropout: float, rng: np.random.Generator | None
    ) -> _State:
        p, k = self.parameters, self.factors
        inverse_counts = self.layout.inverse_counts(ids)[:, :, None].astype(p["table"].dtype)
        pooled = (self.layout.membership.astype(p["table"].dtype) @ p["table"][ids]) * inverse_counts
        embedding, first_order = pooled[:, :, :k], pooled[:, :, k]
        summed = embedding.sum(1)
        pairs = 0.5 * ((summed**2).sum(1) - (embedding**2).sum((1, 2)))
        activations = [np.concatenate([embedding.reshape(len(ids), -1), dense], axis=1)]
        # d activation / d pre-activation of each hidden layer: ReLU's step times the dropout mask.
        slopes = []
        for index in range(len(self.hidden)):
            pre = activations[-1] @ p[f"weight_{index}"] + p[f"bias_{index}"]
            slope = (pre > 0).astype(pre.dtype)
            if dropout > 0 and rng is not None:
                slope *= (rng.random(pre.shape, dtype=np.float32) >= dropout) / pre.dtype.type(1 - dropout)
            slopes.append(slope)
            activations.append(pre * slope)
        deep = activations[-1] @ p["out_weight"] + p["out_bias"]
        logit = first_order.sum(1) + dense @ p["dense_weight"] + pairs + deep
        return _State(logit, embedding, summed, inverse_counts, activations, slopes)

    def _backward(self, batch: Batch, state: _State, d_logit: np.ndarray, l2: float) -> Parameters:
        p, k = self.parameters, self.factors
        gradients: Parameters = {
            "out_weight": state.activations[-1].T @ d_logit,
            "out_bias": d_logit.sum(),
            "dense_weight": batch.dense.T @ d_logit,
        }
        upstream = d_logit[:, None] * p["out_weight"]
        for index in reversed(range(len(self.hidden))):
            upstream = upstream * state.slopes[index]
            gradients[f"weight_{index}"] = state.activations[index].T @ upstream
            gradients[f"bias_{index}"] = upstream.sum(0)
            upstream = upstream @ p[f"weight_{index}"].T
        fields = len(self.layout.fields)
        d_embedding = upstream[:, : fields * k].reshape(-1, fields, k)
        d_embedding = d_embedding + d_logit[:, None, None] * (state.summed[:, None, :] - state.embedding)
        d_embedding = d_embedding + 2 * l2 * state.embedding
        d_first_order = np.broadcast_to(d_logit[:, None, None], (len(batch), fields, 1))
        d_pooled = np.concatenate([d_embedding, d_first_order], axis=2)
        gradients["table"] = scatter_to_table(self.layout, batch.ids, d_pooled * state.inverse_counts)
        return gradients


@dataclass(frozen=True)
class _State:
    """What the backward pass needs of the forward pass."""

    logit: np.ndarray
    embedding: np.ndarray
    summed: np.ndarray
    inverse_counts: np.ndarray
    activations: list[np.ndarray]
    slopes: list[np.ndarray]


def scatter_to_table(layout: TableLayout, ids: NDArray[np.int64], d_pooled: np.ndarray) -> np.ndarray:
    """Adds gradients [batch, fields, width] of pooled fields to their rows, [table_rows, width].

    Missing rows stay at zero: they are padding.
    """
    d_slots = layout.membership.T.astype(d_pooled.dtype) @ d_pooled
    gradient = np.zeros((layout.table_rows, d_pooled.shape[2]), d_pooled.dtype)
    np.add.at(gradient, ids.ravel(), d_slots.reshape(-1, d_pooled.shape[2]))
    gradient[layout.missing_rows] = 0
    return gradient


def _uniform(rng: np.random.Generator, fan_in: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return (rng.uniform(-1, 1, shape) / np.sqrt(fan_in)).astype(np.float32)
