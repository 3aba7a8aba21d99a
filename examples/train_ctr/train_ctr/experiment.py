"""One run of the whole pipeline for one seed: encode, train, calibrate the interval, measure, export."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train_ctr import coverage, onnx_graph, profile, spec, training, variance
from train_ctr.artifact import Contents
from train_ctr.dataset import Dataset, Part
from train_ctr.deepfm import Batch, DeepFM
from train_ctr.encoder import Encoder
from train_ctr.interval import ctr_interval
from train_ctr.layout import TableLayout
from train_ctr.linear import Linear
from train_ctr.metrics import Quality, auc_standard_error, quality
from train_ctr.variance import METHOD, IdVariance, UnitOutcomes

Log = Callable[[str], None]


@dataclass(frozen=True)
class Intervals:
    """Coverage of one part. Keys are nominal levels; `standard_error` is of the 90 % one, by cluster bootstrap."""

    predictive: dict[float, float]
    raw_90: float
    standard_error: float
    width_ratio: float


@dataclass(frozen=True)
class Evaluation:
    """Held-out figures of one part."""

    quality: Quality
    auc_standard_error: float
    linear: Quality
    intervals: Intervals
    units: UnitOutcomes


@dataclass(frozen=True)
class Experiment:
    """`evaluations` has `test` (warm) and, where the data has cold units, `cold_test`."""

    seed: int
    epochs: int
    variance: IdVariance
    evaluations: dict[str, Evaluation]
    contents: Contents


def run(dataset: Dataset, seed: int, log: Log) -> Experiment:
    """Deterministic in (dataset, seed), on one machine."""
    built = spec.build(dataset.model_name, dataset.unit_name, dataset.plan, dataset.train.inputs)
    layout = TableLayout.from_spec(built.spec)
    encoder = Encoder(built.spec, built.vocabularies)
    log(f"encoding ({layout.table_rows} table rows, {layout.slots} slots, {layout.dense_columns} numbers)")
    train, calibration = _encode(encoder, dataset.train), _encode(encoder, dataset.calibration)

    rng = np.random.default_rng(seed)
    base_rate = train.clicks.sum() / train.impressions.sum()
    bias = math.log(base_rate / (1 - base_rate))
    settings = dataset.settings
    model = DeepFM.initialise(layout, settings.factors, settings.hidden, bias, rng)
    epochs = training.fit(model, train, calibration, settings, rng, _progress(log, "DeepFM"))
    linear = Linear.initialise(layout, bias)
    training.fit(linear, train, calibration, settings, rng, _progress(log, "linear"))

    log("fitting the interval on held-out units")
    information = variance.row_information(layout, train, training.predict(model, train))
    fitted = _fit_interval(dataset, layout, encoder, calibration, information, model)

    log("measuring held-out units")
    evaluations = {
        name: _evaluate(part, _encode(encoder, part), model, linear, fitted, information, seed)
        for name, part in (("test", dataset.test), ("cold_test", dataset.cold_test))
        if len(part)
    }
    graph = onnx_graph.build(model, fitted.row_variance(layout, information), fitted.tau2)
    calibrated = _calibration(dataset, fitted, evaluations)
    contents = Contents(built, graph, calibrated, dataset.golden, profile.of_training(built.spec, dataset.train))
    return Experiment(seed, epochs, fitted, evaluations, contents)


def _encode(encoder: Encoder, part: Part) -> Batch:
    ids, dense = encoder.encode(part.inputs)
    return Batch(ids, dense, part.clicks.astype(np.float32), part.impressions.astype(np.float32))


def _fit_interval(
    dataset: Dataset,
    layout: TableLayout,
    encoder: Encoder,
    calibration: Batch,
    information: np.ndarray,
    model: DeepFM,
) -> IdVariance:
    cold = _encode(encoder, dataset.calibration_cold)
    rows = Batch(
        np.concatenate([calibration.ids, cold.ids]),
        np.concatenate([calibration.dense, cold.dense]),
        np.concatenate([calibration.clicks, cold.clicks]),
        np.concatenate([calibration.impressions, cold.impressions]),
    )
    warm_unit = dataset.calibration.unit
    unit = np.concatenate([warm_unit, dataset.calibration_cold.unit + warm_unit.max() + 1])
    return variance.fit(layout, information, rows, training.predict(model, rows), unit, dataset.oov_fields)


def _evaluate(
    part: Part,
    rows: Batch,
    model: DeepFM,
    linear: Linear,
    fitted: IdVariance,
    information: np.ndarray,
    seed: int,
) -> Evaluation:
    logit = training.predict(model, rows)
    row_variance = fitted.logit_variance(model.layout, information, rows.ids)
    scores = quality(logit, part.clicks, part.impressions)
    error = auc_standard_error(scores.auc, scores.clicks, scores.impressions - scores.clicks)
    units = variance.by_unit(logit, row_variance, rows, part.unit)
    return Evaluation(
        scores,
        error,
        quality(training.predict(linear, rows), part.clicks, part.impressions),
        intervals(units, part, seed),
        units,
    )


def intervals(units: UnitOutcomes, part: Part, seed: int) -> Intervals:
    """Coverage of `units` of a part, with the cluster bootstrap drawn from `seed`."""
    steps = coverage.predictive_steps(units)
    covered = {level: coverage.predictive_coverage(steps, level) for level in coverage.LEVELS}
    cluster = np.zeros(len(units.clicks), np.int64)
    cluster[part.unit] = part.cluster
    _, lower, upper = ctr_interval(units.logit, units.variance, 0.9)
    return Intervals(
        predictive={level: float(values.mean()) for level, values in covered.items()},
        raw_90=coverage.raw_share(units, 0.9),
        standard_error=coverage.cluster_standard_error(covered[0.9], cluster, seed),
        width_ratio=float(np.median(upper / lower)),
    )


def _calibration(dataset: Dataset, fitted: IdVariance, evaluations: dict[str, Evaluation]) -> dict[str, object]:
    def units(part: Part) -> int:
        return int(part.unit.max()) + 1 if len(part) else 0

    covered = {name: round(evaluation.intervals.predictive[0.9], 4) for name, evaluation in evaluations.items()}
    return {
        "method": METHOD,
        "a": fitted.a,
        "lam": fitted.lam,
        "tau2": fitted.tau2,
        "oov_variance": fitted.oov,
        "coverage_test": covered["test"],
        "coverage_cold": covered.get("cold_test"),
        "units": {
            "calibration": units(dataset.calibration) + units(dataset.calibration_cold),
            "test": units(dataset.test),
            "cold_test": units(dataset.cold_test),
        },
        "sampling_rate_negatives": 1.0,
    }


def _progress(log: Log, name: str) -> Callable[[int, float], None]:
    return lambda epoch, loss: log(f"training {name}, epoch {epoch}, validation log loss {loss:.6f}")
