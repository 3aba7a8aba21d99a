"""The Upworthy Research Archive: headline tests of 2013 to 2015, with impressions and clicks.

Reads the exploratory packages file (CSV or CSV.gz, columns test_id, week, eyecatcher_id, headline,
impressions, clicks), derives features from headlines and splits the creatives. Text is lower-cased and
split into tokens here, upstream of the encoder, as a producer would do it.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train_ctr.dataset import DataError, Dataset, Part, indices
from train_ctr.golden_requests import UPWORTHY_HEADLINES, upworthy_requests
from train_ctr.spec import HashedTokens, Number, Vocabulary
from train_ctr.training import Settings

MODEL_NAME = "ctr-upworthy"
COLUMNS = ("test_id", "week", "eyecatcher_id", "headline", "impressions", "clicks")
PLAN = (
    Vocabulary("test_id"),
    Vocabulary("eyecatcher_id"),
    Vocabulary("week"),
    HashedTokens("headline", buckets=4096, max_values=16),
    Number("headline_chars", is_count=True),
    Number("headline_words", is_count=True),
    Number("upper_words", is_count=True),
    Number("has_question"),
    Number("has_exclamation"),
    Number("has_digit"),
)
SETTINGS = Settings(id_dropout={"test_id": 0.15, "eyecatcher_id": 0.15})

# How the file writes an absent image.
_ABSENT = "nan"
_TOKEN = re.compile(r"[a-z0-9']+")
_DIGIT = re.compile(r"[0-9]")


@dataclass(frozen=True)
class Creative:
    """One headline and image in one test, with all its impressions."""

    test_id: str
    week: str
    eyecatcher_id: str | None
    headline: str
    impressions: int
    clicks: int


def tokens(headline: str) -> list[str]:
    return _TOKEN.findall(headline.lower())


def headline_features(headline: str) -> dict[str, Any]:
    """What the producer of a request derives from a headline."""
    words = tokens(headline)
    return {
        "headline": words,
        "headline_chars": len(headline),
        "headline_words": len(words),
        "upper_words": sum(word.isupper() and len(word) > 1 for word in headline.split()),
        "has_question": int("?" in headline),
        "has_exclamation": int("!" in headline),
        "has_digit": int(_DIGIT.search(headline) is not None),
    }


def request_of(creative: Creative) -> dict[str, Any]:
    """The raw request for one creative, keyed by feature."""
    return {
        "test_id": creative.test_id,
        "eyecatcher_id": creative.eyecatcher_id,
        "week": creative.week,
        **headline_features(creative.headline),
    }


def read_creatives(path: Path) -> list[Creative]:
    """Reads the file in its own order and adds up packages that show the same creative.

    Packages of a test may differ only in columns that are not here (excerpt, lede). Left apart, the same
    headline and image would stand on both sides of the split.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            return _merge(_parse(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _parse(path: Path, reader: csv.DictReader[str]) -> Iterable[Creative]:
    absent = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if absent:
        raise DataError(f"{path} lacks the columns {', '.join(absent)}; it has {reader.fieldnames}")
    for row in reader:
        try:
            impressions, clicks = int(row["impressions"]), int(row["clicks"])
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}, line {reader.line_num}: impressions and clicks must be whole numbers") from error
        if not 0 <= clicks <= impressions or impressions == 0:
            raise DataError(f"{path}, line {reader.line_num}: {clicks} clicks of {impressions} impressions")
        image = None if row["eyecatcher_id"] == _ABSENT else row["eyecatcher_id"]
        yield Creative(row["test_id"], row["week"], image, row["headline"], impressions, clicks)


def _merge(creatives: Iterable[Creative]) -> list[Creative]:
    merged: dict[tuple[str, str, str | None, str], Creative] = {}
    for new in creatives:
        key = (new.test_id, new.week, new.eyecatcher_id, new.headline)
        old = merged.get(key)
        if old is not None:
            new = Creative(*key, old.impressions + new.impressions, old.clicks + new.clicks)
        merged[key] = new
    return list(merged.values())


def split(creatives: Sequence[Creative], seed: int) -> dict[str, list[Creative]]:
    """Every eighth test is cold: none of its creatives is trained on, half of them calibrate.

    Creatives of the other tests fall at random into train (65 %), calibration (15 %) and test (20 %).
    """
    rng = np.random.default_rng(seed)
    tests = sorted({creative.test_id for creative in creatives})
    cold = sorted(rng.permutation(tests)[: len(tests) // 8].tolist())
    draws = rng.random(len(creatives))
    cold_part = {test: "calibration_cold" if rng.random() < 0.5 else "cold_test" for test in cold}
    parts: dict[str, list[Creative]] = {
        name: [] for name in ("train", "calibration", "calibration_cold", "test", "cold_test")
    }
    for creative, draw in zip(creatives, draws, strict=True):
        warm_part = "train" if draw < 0.65 else "calibration" if draw < 0.80 else "test"
        parts[cold_part.get(creative.test_id, warm_part)].append(creative)
    return parts


def dataset(creatives: Sequence[Creative], seed: int) -> Dataset:
    """The split of `seed`, ready for training."""
    return dataset_of_parts(split(creatives, seed))


def dataset_of_parts(members: Mapping[str, Sequence[Creative]]) -> Dataset:
    """Keyed as `split` returns them; the order within a part is kept."""
    empty = [name for name, creatives in members.items() if not creatives]
    if empty:
        raise DataError(f"too few creatives: nothing is left for the parts {', '.join(empty)}")
    parts = {name: _part(creatives) for name, creatives in members.items()}
    examples = {name: headline_features(text) for name, text in UPWORTHY_HEADLINES.items()}
    return Dataset(
        model_name=MODEL_NAME,
        unit_name="creative (test_id, week, eyecatcher_id, headline)",
        plan=PLAN,
        oov_fields=("test_id",),
        settings=SETTINGS,
        golden=upworthy_requests(_known_ids(parts["train"].inputs), examples),
        **parts,
    )


def _part(creatives: Sequence[Creative]) -> Part:
    return Part(
        inputs=[request_of(creative) for creative in creatives],
        clicks=np.array([creative.clicks for creative in creatives], np.float64),
        impressions=np.array([creative.impressions for creative in creatives], np.float64),
        unit=np.arange(len(creatives)),
        cluster=indices([creative.test_id for creative in creatives]),
    )


def _known_ids(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    return {name: sorted({row[name] for row in rows if row[name]}) for name in ("test_id", "eyecatcher_id", "week")}
