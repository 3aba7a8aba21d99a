"""Trains a CTR model of campaigns on what ClickHouse holds, with the features that the server will look up.

Each example is a campaign on one day: the sums of the weeks before it, which is what the server would have known as
that day began, and the clicks and impressions of the day. The smoothed rates are computed here by the formula, and
with the constants, that go into the feature spec for the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from train_ctr import artifact, experiment
from train_ctr.dataset import Dataset, Part, indices
from train_ctr.spec import Number, Vocabulary
from train_ctr.training import Settings

MODEL_NAME = "ctr-campaigns"
# Days whose clicks are learned from, and the longest window of the view.
DAYS, WINDOW = 6, 28
# A day of fewer impressions says next to nothing, and there are many of them.
LEAST_IMPRESSIONS = 5
# Prior of every rate: about the mean of all campaigns, as sure as so many impressions.
PRIOR_IMPRESSIONS = 200.0
# Values older than this are the default's business.
MAX_AGE_SECONDS = 3600
COLD_SHARE = 0.1

Query = Callable[[str], list[dict[str, Any]]]

EXAMPLES = f"""
SELECT campaign_id, any(user_id) AS user_id, day,
  sumIf(impressions, at >= day) AS label_impressions, sumIf(clicks, at >= day) AS label_clicks,
  sumIf(impressions, at < day AND at >= day - 7) AS impressions_7d,
  sumIf(clicks, at < day AND at >= day - 7) AS clicks_7d,
  sumIf(impressions, at < day) AS impressions_28d, sumIf(clicks, at < day) AS clicks_28d,
  toFloat64(sumIf(spend, at < day AND at >= day - 7)) AS spend_7d
FROM (
  SELECT *, toDate(timestamp) AS at, arrayJoin(arrayMap(n -> today() - n, range(1, {DAYS + 1}))) AS day
  FROM campaign_metrics FINAL
)
WHERE at <= day AND at >= day - {WINDOW}
GROUP BY campaign_id, day
HAVING label_impressions >= {LEAST_IMPRESSIONS}
ORDER BY campaign_id, day
"""


def train(query: Query, out: Path, log: Callable[[str], None]) -> str:
    """Writes a version to `out`, and says how good it is; the same tables give the same version."""
    log("reading examples")
    rows = query(EXAMPLES)
    clicks = sum(int(row["label_clicks"]) for row in rows)
    rate = clicks / sum(int(row["label_impressions"]) for row in rows)
    run = experiment.run(dataset(rows, rate), seed=1, log=log)
    artifact.write(out, run.contents)
    quality = run.evaluations["test"].quality
    return f"trained on {len(rows):,} days of campaigns; AUC of held-out days {quality.auc:.3f}"


def plan(rate: float) -> list[Vocabulary | Number]:
    """The campaign's id comes with the request; all else is looked up by it."""
    prior = {"a": rate * PRIOR_IMPRESSIONS, "b": (1 - rate) * PRIOR_IMPRESSIONS}

    def stored(**what: Any) -> dict[str, Any]:
        source = {"kind": "feature_store", "entity": "campaign", "entity_key": "campaign_id"}
        return source | what | {"max_age": MAX_AGE_SECONDS}

    def smoothed(window: str) -> dict[str, Any]:
        return stored(smoothed={"successes": f"clicks_{window}", "trials": f"impressions_{window}"} | prior)

    return [
        Vocabulary("campaign_id"),
        Number("ctr_7d", source=smoothed("7d")),
        Number("ctr_28d", source=smoothed("28d")),
        Number("impressions_7d", is_count=True, source=stored(feature="impressions_7d")),
        Number("impressions_28d", is_count=True, source=stored(feature="impressions_28d")),
        Number("spend_7d", is_count=True, source=stored(feature="spend_7d")),
    ]


def inputs(row: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """A training example's features, as a request that carries them would name them."""

    def smoothed(window: str) -> float:
        clicks, impressions = float(row[f"clicks_{window}"]), float(row[f"impressions_{window}"])
        return (clicks + rate * PRIOR_IMPRESSIONS) / (impressions + PRIOR_IMPRESSIONS)

    return {
        "campaign_id": row["campaign_id"],
        "ctr_7d": smoothed("7d"),
        "ctr_28d": smoothed("28d"),
        "impressions_7d": float(row["impressions_7d"]),
        "impressions_28d": float(row["impressions_28d"]),
        "spend_7d": float(row["spend_7d"]),
    }


def dataset(rows: Sequence[Mapping[str, Any]], rate: float) -> Dataset:
    """A tenth of the campaigns are cold: none of their days is trained on."""
    rng = np.random.default_rng(1)
    campaigns = sorted({row["campaign_id"] for row in rows})
    draw = dict(zip(campaigns, rng.random(len(campaigns)), strict=True))
    parts: dict[str, list[Mapping[str, Any]]] = {
        name: [] for name in ("train", "calibration", "calibration_cold", "test", "cold_test")
    }
    for row, chance in zip(rows, rng.random(len(rows)), strict=True):
        if draw[row["campaign_id"]] < COLD_SHARE:
            part = "calibration_cold" if draw[row["campaign_id"]] < COLD_SHARE / 2 else "cold_test"
        else:
            part = "train" if chance < 0.7 else "calibration" if chance < 0.85 else "test"
        parts[part].append(row)
    ready = {name: _part(members, rate) for name, members in parts.items()}
    nothing = {"campaign_id": None} | dict.fromkeys([item.name for item in plan(rate)[1:]])
    return Dataset(
        model_name=MODEL_NAME,
        unit_name="campaign and day",
        plan=plan(rate),
        oov_fields=["campaign_id"],
        settings=Settings(hidden=(32, 16), max_epochs=40, id_dropout={"campaign_id": 0.8}),
        golden=[
            ("a campaign with its features", inputs(rows[0], rate)),
            ("a campaign that nobody knows, without features", nothing | {"campaign_id": "nobody"}),
            ("nothing at all", nothing),
        ],
        **ready,
    )


def _part(rows: Sequence[Mapping[str, Any]], rate: float) -> Part:
    return Part(
        [inputs(row, rate) for row in rows],
        np.array([float(row["label_clicks"]) for row in rows]),
        np.array([float(row["label_impressions"]) for row in rows]),
        indices([(row["campaign_id"], row["day"]) for row in rows]),
        indices([row["user_id"] for row in rows]),
    )
