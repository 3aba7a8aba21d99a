import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_ctr.encoder import EncodeError, Encoder
from train_ctr.hashing import hash64

REQUEST = {"kind": "request"}
CITY = {
    "name": "city",
    "kind": "categorical",
    "source": REQUEST | {"key": "town"},
    "encoding": {"type": "vocabulary", "file": "city"},
    "normalize": ["trim_ascii", "ascii_lower"],
    "row_offset": 10,
    "rows": 4,
    "slots": [0],
    "missing": "row_0",
    "oov": "row_1",
}
TAGS = {
    "name": "tags",
    "kind": "categorical",
    "source": REQUEST | {"key": "tags"},
    "encoding": {"type": "hash", "scheme": "aibuyer-hash-v1", "buckets": 50},
    "normalize": ["trim_ascii"],
    "row_offset": 20,
    "rows": 52,
    "slots": [0, 1, 2],
    "missing": "row_0",
    "multi": {"max_values": 3, "truncate": "keep_first", "pooling": "masked_mean"},
}
COUNT = {
    "name": "count",
    "kind": "numeric",
    "source": REQUEST | {"key": "count"},
    "column": 0,
    "default": 3.0,
    "transforms": [
        {"op": "clip", "min": -5.0, "max": 100.0},
        {"op": "log1p"},
        {"op": "standardize", "mean": 1.0, "std": 0.5},
    ],
}
AGE = {
    "name": "age",
    "kind": "numeric",
    "source": REQUEST | {"key": "age"},
    "row_offset": 0,
    "rows": 5,
    "slots": [0],
    "missing": "row_0",
    "transforms": [{"op": "bucketize", "boundaries": [18.0, 65.0]}],
}


def encode(field: dict[str, Any], value: Any) -> Any:
    """The field's ids, or its one dense value."""
    key = field["source"].get("key", field["name"])
    ids, dense = Encoder({"fields": [field]}, {"city": ["berlin", "zürich"]}).encode([{key: value}])
    return float(dense[0, 0]) if dense.shape[1] else ids[0].tolist()


def hashed(value: str) -> int:
    return 22 + hash64("tags", value.encode()) % 50


@pytest.mark.parametrize("artifact", ["testdata", "committed_artifact"])
def test_golden_rows_of_an_independent_trainer_and_of_this_one(artifact: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(artifact)
    directory = directory / "example-artifact" if artifact == "testdata" else directory
    rows = [json.loads(line) for line in (directory / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    ids, dense = Encoder.from_directory(directory).encode([row["inputs"] for row in rows])
    assert ids.tolist() == [row["ids"] for row in rows]
    assert dense == pytest.approx(np.array([row["dense"] for row in rows]), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("berlin", 12),
        ("zürich", 13),
        (" BERLIN\t", 12),
        ("ZÜRICH", 11),
        ("zu\u0308rich", 11),
        ("\xa0berlin", 11),
        ("\x0bberlin", 11),
        ("paris", 11),
        (7, 11),
        (True, 11),
        ("", 10),
        (" \r\n\f", 10),
        (None, 10),
    ],
)
def test_vocabulary(value: Any, row: int) -> None:
    assert encode(CITY, value) == [row]


def test_canonical_text_of_numbers_and_truth_values() -> None:
    encoder = Encoder({"fields": [CITY]}, {"city": ["-9223372036854775808", "false"]})
    ids, _ = encoder.encode([{"town": -(2**63)}, {"town": False}, {"town": 0}])
    assert ids[:, 0].tolist() == [12, 13, 11]


@pytest.mark.parametrize("value", [1.0, ["berlin"], {"a": 1}, "\ud800"])
def test_values_that_are_no_category(value: Any) -> None:
    with pytest.raises(EncodeError, match="city"):
        encode(CITY, value)


def test_lists_are_cut_padded_and_keep_the_place_of_blanks() -> None:
    assert encode(TAGS, ["a", "b", "c", "d"]) == [hashed("a"), hashed("b"), hashed("c")]
    assert encode(TAGS, ["a"]) == encode(TAGS, "a") == [hashed("a"), 20, 20]
    assert encode(TAGS, ["", " b ", " "]) == [20, hashed("b"), 20]
    assert encode(TAGS, []) == encode(TAGS, None) == [20, 20, 20]


@pytest.mark.parametrize("value", [3, [3], [None], True])
def test_lists_hold_only_text(value: Any) -> None:
    with pytest.raises(EncodeError, match="tags"):
        encode(TAGS, value)


def test_fields_may_refuse_missing_and_unknown_values() -> None:
    strict = CITY | {"missing": "reject", "oov": "reject"}
    assert encode(strict, "Berlin") == [12]
    assert encode(CITY | {"oov": "row_0"}, "paris") == [10]
    for value in ("", None, "paris"):
        with pytest.raises(EncodeError, match="city"):
            encode(strict, value)
    with pytest.raises(EncodeError, match="tags"):
        encode(TAGS | {"missing": "reject"}, ["", " "])
    with pytest.raises(EncodeError, match="age"):
        encode(AGE | {"missing": "reject"}, None)


def test_numbers_are_transformed_in_float64_and_cast_once() -> None:
    assert encode(COUNT, 7) == np.float32((math.log1p(7.0) - 1.0) / 0.5)
    assert encode(COUNT, True) == np.float32((math.log1p(1.0) - 1.0) / 0.5)
    assert encode(COUNT, 1e9) == encode(COUNT, 100)
    assert encode(COUNT, None) == encode(COUNT, 3.0)
    # In float32 the difference below would be 0.
    fine = COUNT | {"transforms": [{"op": "standardize", "mean": 16777216.0, "std": 1.0}]}
    assert encode(fine, 16777217) == 1.0


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, "7", [7], -math.inf])
def test_numbers_that_are_invalid(value: Any) -> None:
    with pytest.raises(EncodeError, match="count"):
        encode(COUNT, value)


def test_a_number_must_fit_float32_after_its_transforms() -> None:
    with pytest.raises(EncodeError, match="float32"):
        encode(COUNT | {"transforms": []}, 1e39)


@pytest.mark.parametrize(("value", "row"), [(17.999, 2), (18, 3), (64.9, 3), (65.0, 4), (1e9, 4), (-1, 2), (None, 0)])
def test_boundaries_belong_to_the_bucket_above(value: Any, row: int) -> None:
    assert encode(AGE, value) == [row]


def test_a_stored_feature_is_found_under_its_own_name() -> None:
    stored = CITY | {"source": {"kind": "feature_store", "entity": "user", "entity_key": "user_id", "feature": "home"}}
    assert encode(stored, "berlin") == [12]
