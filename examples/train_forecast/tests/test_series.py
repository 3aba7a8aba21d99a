"""Reading, cutting and spoiling series."""

from pathlib import Path

import numpy as np
import pytest
from train_forecast import series, windows
from train_forecast.series import Series


def write(folder: Path, name: str, rows: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n", encoding="utf-8")


def test_values_of_an_hour_are_averaged_and_hours_without_one_are_missing(tmp_path: Path) -> None:
    rows = ["2024-01-01 00:05:00,1.0", "2024-01-01 00:35:00,3.0", "2024-01-01 02:00:01,7"]
    write(tmp_path / "realThings", "a", rows)
    write(tmp_path / "artificial", "b", rows)
    (found,) = series.read_folder(tmp_path, shortest=3)
    assert (found.name, found.group, found.start) == ("a", "realThings", 1_704_067_200)
    np.testing.assert_array_equal(found.values, [2, np.nan, 7])
    assert series.read_folder(tmp_path, shortest=4) == []
    with pytest.raises(FileNotFoundError, match="name the folder `data`"):
        series.read_folder(tmp_path / "realThings", shortest=1)


def hours(count: int, missing: slice = slice(0)) -> Series:
    values = np.arange(count, dtype=float)
    values[missing] = np.nan
    return Series("s", "real", 0, values)


def test_targets_stay_within_their_part_and_contexts_before_them() -> None:
    one = hours(400)
    cut = windows.cut([one], 0.5, 0.75, step=1)
    assert len(cut) == 100 - windows.HORIZON + 1
    assert cut.target.min() == 200 and cut.target.max() == 299
    np.testing.assert_array_equal(cut.context[:, -1] + 1, cut.target[:, 0])
    context, _ = windows.at(one, 30)
    assert np.isnan(context[: windows.CONTEXT - 30]).all()
    np.testing.assert_array_equal(context[-30:], np.arange(30))


def test_origins_have_enough_before_them_and_something_after() -> None:
    assert windows.origins(hours(100), 0, 100, 1)[0] == windows.MIN_VALUES
    late = windows.origins(hours(100, slice(0, 40)), 0, 100, 1)
    assert late[0] == 40 + windows.MIN_VALUES
    assert 60 not in windows.origins(hours(100, slice(60, 100)), 0, 100, 1)


def test_spoilt_windows_keep_enough_values() -> None:
    rng = np.random.default_rng(1)
    context = rng.normal(size=(500, windows.CONTEXT))
    context[:50, : -windows.MIN_VALUES] = np.nan
    spoilt = windows.spoil(context, rng)
    kept = np.isfinite(spoilt)
    assert kept.sum(axis=1).min() >= windows.MIN_VALUES
    assert (kept <= np.isfinite(context)).all()
    np.testing.assert_array_equal(spoilt[kept], context[kept])
    assert 0.02 < 1 - kept[50:].mean() < 0.3
