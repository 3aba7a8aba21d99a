"""What `profile.json` says of the training rows."""

from typing import Any

import numpy as np
import pytest
from train_ctr import profile
from train_ctr.dataset import Part
from train_ctr.experiment import Experiment


def _part(rows: list[dict[str, Any]], impressions: list[int]) -> Part:
    index = np.arange(len(rows))
    return Part(rows, np.zeros(len(rows)), np.array(impressions, np.float64), index, index)


def _field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "source": {"kind": "request", "key": f"{name}_key"}} | more


def test_rows_count_as_often_as_they_were_shown() -> None:
    rows = [{"n_key": 0, "t_key": "a"}, {"n_key": 1, "t_key": None}, {"n_key": None, "t_key": True}, {"t_key": ""}]
    spec = {"fields": [_field("n", "numeric"), _field("t", "categorical"), _field("m", "categorical", multi={})]}
    fields = profile.of_training(spec, _part(rows, [10, 30, 50, 10]))["fields"]
    assert fields == {
        "n": {"kind": "numeric", "edges": [1.0], "shares": [0.1, 0.3], "missing": 0.6},
        "t": {"kind": "categorical", "values": {"a": 0.1, "true": 0.5}, "other": 0.0, "missing": 0.4},
    }


def test_many_numbers_are_cut_at_their_deciles() -> None:
    rows = [{"n_key": float(n)} for n in range(1000)]
    spec = {"fields": [_field("n", "numeric")]}
    found = profile.of_training(spec, _part(rows, [1] * 1000))["fields"]["n"]
    assert len(found["edges"]) == 9 and found["edges"] == sorted(found["edges"])
    assert max(found["shares"]) < 0.105
    # Half of all is one number: it takes the place of five deciles.
    rows += [{"n_key": 500.0}] * 1000
    found = profile.of_training(spec, _part(rows, [1] * 2000))["fields"]["n"]
    assert found["edges"].count(500.0) == 1 and min(found["shares"]) > 0
    assert sum(found["shares"]) == pytest.approx(1)


def test_rare_texts_are_others() -> None:
    rows = [{"t_key": f"v{n % (1 + n // 10)}"} for n in range(1000)]
    found = profile.of_training({"fields": [_field("t", "categorical")]}, _part(rows, [1] * 1000))["fields"]["t"]
    assert len(found["values"]) == profile.MOST_VALUES and list(found["values"]) == sorted(found["values"])
    assert found["other"] == pytest.approx(1 - sum(found["values"].values()))


def test_a_version_brings_the_profile_of_its_training(synthetic_run: Experiment) -> None:
    contents = synthetic_run.contents
    assert contents.profile is not None and contents.spec["profile"] == "profile.json"
    fields = contents.profile["fields"]
    assert "headline" not in fields and fields["week"]["kind"] == "categorical"
    for field in fields.values():
        shares = field["shares"] if field["kind"] == "numeric" else [*field["values"].values(), field["other"]]
        assert sum(shares) + field["missing"] == pytest.approx(1, abs=1e-9)
