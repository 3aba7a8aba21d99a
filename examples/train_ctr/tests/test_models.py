"""Gradients against finite differences, and the graph against the forward pass."""

import numpy as np
import pytest
from train_ctr.deepfm import Batch, DeepFM, Regularization
from train_ctr.layout import FieldRows, TableLayout
from train_ctr.linear import Linear
from train_ctr.onnx_graph import build
from train_ctr.session import Session
from train_ctr.variance import IdVariance

LAYOUT = TableLayout(
    (FieldRows("one", 0, 5, (0,)), FieldRows("many", 5, 9, (1, 2, 3)), FieldRows("other", 14, 4, (4,))),
    table_rows=18,
    dense_columns=2,
)
STEP = 1e-6


def example(rows: int, seed: int) -> Batch:
    """Random rows, with missing ids in every field."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate(
        [rng.integers(f.offset, f.offset + f.rows, (rows, len(f.slots))) for f in LAYOUT.fields], axis=1
    )
    ids[0] = [0, 5, 5, 5, 14]
    impressions = rng.integers(1, 50, rows).astype(float)
    return Batch(ids, rng.normal(size=(rows, 2)), np.floor(impressions * rng.random(rows)), impressions)


def deepfm() -> DeepFM:
    model = DeepFM.initialise(LAYOUT, factors=3, hidden=(4, 3), bias=-1.0, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for name, value in model.parameters.items():
        model.parameters[name] = rng.normal(0, 0.5, value.shape)
    model.parameters["table"][LAYOUT.missing_rows] = 0
    return model


def linear() -> Linear:
    model = Linear.initialise(LAYOUT, bias=-1.0)
    rng = np.random.default_rng(2)
    for name, value in model.parameters.items():
        model.parameters[name] = rng.normal(0, 0.5, value.shape)
    model.parameters["table"][LAYOUT.missing_rows] = 0
    return model


@pytest.mark.parametrize("model", [deepfm(), linear()], ids=["deepfm", "linear"])
def test_gradients_match_finite_differences(model: DeepFM | Linear) -> None:
    batch = example(rows=12, seed=5)
    regularization = Regularization(l2=0.05, dropout=0.0, clicks_per_row=4.0)
    _, gradients = model.loss_and_gradients(batch, regularization, rng=None)
    assert gradients.keys() == model.parameters.keys()
    for name, value in model.parameters.items():
        for index in np.ndindex(value.shape):
            if name == "table" and index[0] in LAYOUT.missing_rows:
                assert gradients[name][index] == 0, "padding must not be trained"
                continue
            kept = value[index]
            losses = []
            for moved in (kept + STEP, kept - STEP):
                value[index] = moved
                losses.append(model.loss_and_gradients(batch, regularization, rng=None)[0])
            value[index] = kept
            slope = (losses[0] - losses[1]) / (2 * STEP)
            assert gradients[name][index] == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, index)


def test_the_graph_computes_what_the_model_and_the_variance_compute() -> None:
    model = deepfm()
    model.parameters = {name: value.astype(np.float32) for name, value in model.parameters.items()}
    information = np.random.default_rng(4).uniform(0, 100, LAYOUT.table_rows)
    variance = IdVariance(a=2.0, lam=5.0, tau2=0.03, oov={"one": 0.7})
    session = Session(build(model, variance.row_variance(LAYOUT, information), variance.tau2).SerializeToString())

    batch = example(rows=64, seed=6)
    dense = batch.dense.astype(np.float32)
    logit, spread = session.run(batch.ids, dense)
    assert logit == pytest.approx(model.logits(batch.ids, dense), abs=2e-6)
    assert spread == pytest.approx(variance.logit_variance(LAYOUT, information, batch.ids), rel=1e-5)
    single = [session.run(batch.ids[i : i + 1], dense[i : i + 1])[0][0] for i in range(64)]
    assert np.array(single) == pytest.approx(logit, abs=1e-6)


def test_variance_of_rows() -> None:
    information = np.zeros(LAYOUT.table_rows)
    information[2] = 15.0
    rows = IdVariance(a=2.0, lam=5.0, tau2=0.0, oov={"one": 0.7}).row_variance(LAYOUT, information)
    assert rows[[0, 1]].tolist() == [0.7, 0.7], "missing and unknown ids of the field with a variance of its own"
    assert rows[2] == pytest.approx(2 / 20)
    assert rows[5] == 0, "padding of a list is no value"
    assert rows[14] == pytest.approx(2 / 5), "a single missing id is not known at all"
