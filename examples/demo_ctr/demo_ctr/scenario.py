"""Which rows are replayed against which model, and how they are grouped into requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_ctr import artifact, experiment, open_bandit, spec, upworthy
from train_ctr.dataset import Part
from train_ctr.encoder import read_vocabularies

from demo_ctr.errors import DemoError

# The split that the committed model was trained on.
UPWORTHY_SEED = 7
OPEN_BANDIT_SEED = 7


@dataclass(frozen=True)
class Scenario:
    """Held-out `parts` to replay, with `labels` for people.

    `context` names the features that all candidates of a request share; consecutive rows of a part with
    the same `request_key` travel together, in the order of the rows.
    """

    title: str
    model_name: str
    models: Path
    seed: int
    parts: Mapping[str, Part]
    labels: Mapping[str, str]
    context: Sequence[str]
    request_key: Callable[[int, Mapping[str, Any]], object]
    caveat: str


def of_upworthy(csv: Path, models: Path) -> Scenario:
    """Held-out creatives, one request a test: which of these headlines will be clicked?"""
    creatives = upworthy.read_creatives(csv)
    parts = upworthy.split(creatives, UPWORTHY_SEED)
    for members in parts.values():
        members.sort(key=lambda creative: (creative.test_id, creative.week))
    data = upworthy.dataset_of_parts(parts)
    _require_same_training_data(models / upworthy.MODEL_NAME, data.plan, data.train, csv)
    return Scenario(
        title="Upworthy Research Archive: creatives that the model has not seen",
        model_name=upworthy.MODEL_NAME,
        models=models,
        seed=UPWORTHY_SEED,
        parts={"test": data.test, "cold_test": data.cold_test},
        labels={"test": "known tests (warm)", "cold_test": "new tests (cold)"},
        context=("test_id", "week"),
        request_key=lambda index, row: (row["test_id"], row["week"]),
        caveat="On this data a linear model is as good as DeepFM; the point is that the served numbers are right.",
    )


def of_open_bandit(sdist: Path, scratch: Path, log: experiment.Log) -> Scenario:
    """Trains a quick model on the earlier impressions; the later ones are replayed one by one."""
    data = open_bandit.dataset(open_bandit.read_impressions(sdist))
    trained = experiment.run(data, OPEN_BANDIT_SEED, log)
    artifact.write(scratch / open_bandit.MODEL_NAME / "1", trained.contents)
    return Scenario(
        title="Open Bandit sample: later impressions, in time order",
        model_name=open_bandit.MODEL_NAME,
        models=scratch,
        seed=OPEN_BANDIT_SEED,
        parts={"test": data.test},
        labels={"test": "later impressions"},
        context=("campaign", "hour", "affinity_total", *(f"user_feature_{i}" for i in range(4))),
        request_key=lambda index, row: index,
        caveat="The sample has 287 clicks in all: far too few to say anything about quality, and nothing is claimed.",
    )


def _require_same_training_data(versions: Path, plan: Sequence[spec.FieldPlan], train: Part, csv: Path) -> None:
    """Held-out rows are held out only for a model that was trained on the other rows of this very file."""
    numbered = sorted((path for path in versions.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    if not numbered:
        raise DemoError(f"there is no model version under {versions}")
    served = json.loads((numbered[-1] / "feature_spec.json").read_text(encoding="utf-8"))
    expected = spec.build(upworthy.MODEL_NAME, "", plan, train.inputs).vocabularies
    if read_vocabularies(served, numbered[-1]) != expected:
        raise DemoError(
            f"{numbered[-1]} was trained on other creatives than the training part of {csv}: train it with "
            f"`python -m train_ctr upworthy --csv {csv} --seeds {UPWORTHY_SEED} --out {numbered[-1]}`"
        )
