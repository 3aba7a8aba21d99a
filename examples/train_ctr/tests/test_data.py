"""Reading and splitting: the Upworthy file and the Open Bandit sample."""

import csv
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import synthetic
from train_ctr import open_bandit, upworthy
from train_ctr.dataset import DataError

HEADER = "test_id,week,eyecatcher_id,headline,impressions,clicks\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_equal_creatives_are_added_up_and_nan_is_no_image(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name, HEADER + 't1,201301,i1,"A, b",100,3\nt1,201301,nan,C,50,1\nt1,201301,i1,"A, b",40,2\n'
    )
    first, second = upworthy.read_creatives(path)
    assert (first.headline, first.impressions, first.clicks) == ("A, b", 140, 5)
    assert second.eyecatcher_id is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("test_id,week\n", "lacks the columns"),
        (HEADER + "t,1,i,h,ten,1\n", "line 2"),
        (HEADER + "t,1,i,h,10,11\n", "11 clicks of 10"),
        (HEADER + "t,1,i,h,0,0\n", "line 2"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        upworthy.read_creatives(write(tmp_path / "a.csv", text))
    with pytest.raises(DataError, match=r"none\.csv"):
        upworthy.read_creatives(tmp_path / "none.csv")


def test_headline_features() -> None:
    features = upworthy.headline_features("WHY Do 3 Cats' Paws Smell? İt's A Mystery!")
    assert features["headline"][:5] == ["why", "do", "3", "cats'", "paws"]
    assert (features["upper_words"], features["has_question"], features["has_exclamation"], features["has_digit"]) == (
        1,
        1,
        1,
        1,
    )
    assert features["headline_chars"] == 42


def test_the_split_keeps_cold_tests_out_of_training() -> None:
    creatives = synthetic.creatives()
    parts = upworthy.split(creatives, seed=4)
    assert sum(map(len, parts.values())) == len(creatives)
    tests = {name: {creative.test_id for creative in members} for name, members in parts.items()}
    assert not tests["train"] & (tests["calibration_cold"] | tests["cold_test"])
    assert not tests["calibration_cold"] & tests["cold_test"]
    assert len(tests["calibration_cold"] | tests["cold_test"]) == 200 // 8
    assert parts == upworthy.split(creatives, seed=4)
    assert parts != upworthy.split(creatives, seed=5)


def sample(path: Path) -> Path:
    """A package of the sample's shape: 20 impressions a log."""
    with tarfile.open(path, "w:gz") as archive:
        for policy in ("bts", "random"):
            for campaign in ("all", "men", "women"):
                folder = f"obp-0.5.7/obp/dataset/obd/{policy}/{campaign}"
                add(archive, f"{folder}/item_context.csv", [["item_id", "item_feature_0"], [0, -0.5], [1, 0.5]])
                users = [f"user_feature_{i}" for i in range(4)]
                header = [
                    "timestamp",
                    "item_id",
                    "position",
                    "click",
                    *users,
                    "user-item_affinity_0",
                    "user-item_affinity_1",
                ]
                rows = [
                    [f"2019-11-{24 + i // 6} {i:02}:00:00+00:00", i % 2, 1 + i % 3, int(i % 5 == 0), *"abcd", 1.0, 2.0]
                    for i in range(20)
                ]
                add(archive, f"{folder}/{campaign}.csv", [header, *rows])
    return path


def add(archive: tarfile.TarFile, name: str, rows: list[list[object]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    member = tarfile.TarInfo(name)
    member.size = len(text.getvalue())
    archive.addfile(member, io.BytesIO(text.getvalue().encode()))


def test_the_sample_is_read_in_time_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample(tmp_path / open_bandit.SDIST)
    monkeypatch.setattr(open_bandit, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    impressions = open_bandit.read_impressions(path)
    assert len(impressions) == 120
    assert [i.time for i in impressions] == sorted(i.time for i in impressions)
    request = impressions[-1].request
    assert (request["item"], request["slot"], request["hour"]) == ("women:1", "women:2", "19")
    assert (request["affinity_item"], request["affinity_total"], request["item_feature_0"]) == (2.0, 3.0, 0.5)
    train, calibration, test = open_bandit.split(impressions)
    assert (len(train), len(calibration), len(test)) == (72, 18, 30)
    assert train[-1].time <= calibration[0].time <= test[0].time


def test_another_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 3060d67f"):
        open_bandit.read_impressions(sample(tmp_path / open_bandit.SDIST))
