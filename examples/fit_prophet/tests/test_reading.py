"""What is read from a CSV, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from demo_ctr.errors import DemoError
from fit_prophet import series

HEADER = "timestamp,value"
LINES = [f"{np.datetime64('2024-01-01') + day},{day}.5" for day in range(200)]


def written(folder: Path, lines: list[str]) -> Path:
    path = folder / "views.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_the_last_share_of_the_rows_is_held_out(tmp_path: Path) -> None:
    past, held_out = series.read(written(tmp_path, LINES)).split(0.25)
    assert (len(past.values), len(held_out.values)) == (150, 50)
    assert held_out.dates[0] == np.datetime64("2024-05-30", "us")
    assert (past.values[-1], held_out.values[0], held_out.name) == (149.5, 150.5, "views")


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (3, "yesterday,1.0", "line 5: expected a date and a number"),
        (3, "2024-01-04,many", "line 5: expected a date and a number"),
        (3, "2024-01-04", "line 5: expected a date and a number"),
        (3, "2024-01-04,nan", "line 5: the value is nan"),
        (3, "2024-01-03,1.0", "line 5: .* does not follow"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: int, text: str, reason: str) -> None:
    with pytest.raises(DemoError, match=reason):
        series.read(written(tmp_path, [*LINES[:line], text, *LINES[line + 1 :]]))


def test_short_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="has 99 rows"):
        series.read(written(tmp_path, LINES[:99]))
    with pytest.raises(DemoError, match="cannot read"):
        series.read(tmp_path / "absent.csv")
