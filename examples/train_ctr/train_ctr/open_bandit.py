"""The small sample of the Open Bandit Dataset (ZOZOTOWN): 60,000 single impressions of seven days.

It ships inside the source package `obp` 0.5.7, which is fetched with pip and never installed. With 287
clicks the sample shows that the pipeline works on impression logs; it cannot tell models apart.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train_ctr.dataset import DataError, Dataset, Part, indices
from train_ctr.golden_requests import open_bandit_requests
from train_ctr.spec import FieldPlan, Number, Vocabulary
from train_ctr.training import Settings

MODEL_NAME = "ctr-open-bandit"
REQUIREMENT = "obp==0.5.7"
SDIST = "obp-0.5.7.tar.gz"
SHA256 = "3060d67fedfcfadf1e7a6f2608987f74412b5eb74d2c567edeb147595c68f2a0"
PLAN: tuple[FieldPlan, ...] = (
    Vocabulary("campaign"),
    Vocabulary("slot"),
    Vocabulary("item"),
    *(Vocabulary(f"user_feature_{i}") for i in range(4)),
    Vocabulary("hour"),
    Number("affinity_item", is_count=True),
    Number("affinity_total", is_count=True),
    Number("item_feature_0"),
)
SETTINGS = Settings(
    factors=4,
    hidden=(32, 16),
    l2=0.1,
    learning_rate=1e-3,
    batch_rows=1024,
    max_epochs=12,
    patience=3,
    id_dropout={"item": 0.05},
)
# Of the impressions in time order; the rest is the test part.
TRAIN_SHARE, CALIBRATION_SHARE = 0.60, 0.15


@dataclass(frozen=True)
class Impression:
    """One item shown once: when (UTC, ISO 8601), the raw request it makes, and whether it was clicked."""

    time: str
    request: Mapping[str, Any]
    clicked: bool


def fetch(cache: Path) -> Path:
    """Returns the source package, downloaded into `cache` unless it is there already."""
    path = cache / SDIST
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # The package supports older Pythons only, but nothing of it is run: only its data files are read.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        command += ["--no-binary", "obp", "--dest", str(cache), REQUIREMENT]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode != 0 or not path.exists():
            raise DataError(
                f"could not download {REQUIREMENT} with pip; fetch {SDIST} by other means and pass its path.\n"
                f"{outcome.stderr.strip()}"
            )
    return path


def read_impressions(sdist: Path) -> list[Impression]:
    """All campaigns of both logging policies, in time order. Refuses a package other than the pinned one."""
    try:
        digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
        if digest != SHA256:
            raise DataError(f"{sdist} has SHA-256 {digest}, expected {SHA256}; delete it and fetch it again")
        with tarfile.open(sdist) as archive:
            impressions = [
                impression
                for policy in ("bts", "random")
                for campaign in ("all", "men", "women")
                for impression in _read_campaign(archive, policy, campaign)
            ]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"cannot read {sdist}: {error}") from error
    return sorted(impressions, key=lambda impression: impression.time)


def split(impressions: Sequence[Impression]) -> tuple[Sequence[Impression], Sequence[Impression], Sequence[Impression]]:
    """Cuts at two points in time: train, calibration, test."""
    first = int(len(impressions) * TRAIN_SHARE)
    second = int(len(impressions) * (TRAIN_SHARE + CALIBRATION_SHARE))
    return impressions[:first], impressions[first:second], impressions[second:]


def dataset(impressions: Sequence[Impression]) -> Dataset:
    """The split in time, ready for training. There are no cold parts: every item appears early."""
    train, calibration, test = (_part(part) for part in split(impressions))
    names = [item.name for item in PLAN if isinstance(item, Vocabulary)]
    known = {name: sorted({row[name] for row in train.inputs}) for name in names}
    return Dataset(
        model_name=MODEL_NAME,
        unit_name="item in slot (item, slot)",
        plan=PLAN,
        oov_fields=(),
        settings=SETTINGS,
        train=train,
        calibration=calibration,
        calibration_cold=_part([]),
        test=test,
        cold_test=_part([]),
        golden=open_bandit_requests(known),
    )


def _read_campaign(archive: tarfile.TarFile, policy: str, campaign: str) -> Iterator[Impression]:
    folder = f"obp-0.5.7/obp/dataset/obd/{policy}/{campaign}"
    # Hashes of item features differ between the policies' folders: each log joins the file beside it.
    items = {row["item_id"]: float(row["item_feature_0"]) for row in _rows(archive, f"{folder}/item_context.csv")}
    for row in _rows(archive, f"{folder}/{campaign}.csv"):
        affinity = [float(value) for name, value in row.items() if name.startswith("user-item_affinity_")]
        yield Impression(
            time=row["timestamp"],
            request={
                "campaign": campaign,
                "slot": f"{campaign}:{row['position']}",
                "item": f"{campaign}:{row['item_id']}",
                **{f"user_feature_{i}": row[f"user_feature_{i}"] for i in range(4)},
                "hour": row["timestamp"][11:13],
                "affinity_item": float(row[f"user-item_affinity_{row['item_id']}"]),
                "affinity_total": sum(affinity),
                "item_feature_0": items[row["item_id"]],
            },
            clicked=row["click"] == "1",
        )


def _rows(archive: tarfile.TarFile, name: str) -> Iterator[dict[str, str]]:
    member = archive.extractfile(name)
    if member is None:
        raise DataError(f"the package has no file {name}")
    yield from csv.DictReader(io.TextIOWrapper(member, encoding="utf-8", newline=""))


def _part(impressions: Sequence[Impression]) -> Part:
    return Part(
        inputs=[impression.request for impression in impressions],
        clicks=np.array([impression.clicked for impression in impressions], np.float64),
        impressions=np.ones(len(impressions)),
        unit=indices([(impression.request["item"], impression.request["slot"]) for impression in impressions]),
        cluster=indices([impression.request["item"] for impression in impressions]),
    )
