"""The baseline: logistic regression over the same table, first-order weights and dense columns only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from train_ctr.deepfm import Batch, Parameters, Regularization, scatter_to_table
from train_ctr.layout import TableLayout


class Linear:
    """Same interface as `DeepFM`, so that one training loop serves both."""

    def __init__(self, layout: TableLayout, parameters: Parameters) -> None:
        self.layout = layout
        self.parameters = parameters

    @classmethod
    def initialise(cls, layout: TableLayout, bias: float) -> Linear:
        """All weights zero; starts out predicting `bias` log-odds."""
        return cls(
            layout,
            {
                "table": np.zeros((layout.table_rows, 1), np.float32),
                "dense_weight": np.zeros(layout.dense_columns, np.float32),
                "out_bias": np.array(bias, np.float32),
            },
        )

    def logits(self, ids: NDArray[np.int64], dense: np.ndarray) -> np.ndarray:
        """Log-odds of a click, [batch]."""
        p = self.parameters
        pooled = (p["table"][ids][:, :, 0] @ self.layout.membership.T) * self.layout.inverse_counts(ids)
        return pooled.sum(1) + dense @ p["dense_weight"] + p["out_bias"]

    def loss_and_gradients(
        self, batch: Batch, regularization: Regularization, rng: np.random.Generator | None
    ) -> tuple[float, Parameters]:
        """Binomial negative log-likelihood per expected click, and its gradients. `rng` is not needed."""
        logit = self.logits(batch.ids, batch.dense)
        scale = 1 / (regularization.clicks_per_row * len(batch))
        nll = batch.impressions * np.logaddexp(0, logit) - batch.clicks * logit
        d_logit = ((batch.impressions * expit(logit) - batch.clicks) * scale).astype(logit.dtype)
        d_pooled = (d_logit[:, None] * self.layout.inverse_counts(batch.ids))[:, :, None]
        return float(nll.sum() * scale), {
            "table": scatter_to_table(self.layout, batch.ids, d_pooled),
            "dense_weight": batch.dense.T @ d_logit,
            "out_bias": d_logit.sum(),
        }
