"""From series to a model version, and the one that is committed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from train_forecast import __main__ as trainer
from train_forecast import artifact, windows
from train_forecast.artifact import ArtifactError, Example
from train_forecast.nhits import Nhits, Shape
from train_forecast.series import Series
from train_forecast.training import Settings

COMMITTED = Path(__file__).resolve().parents[3] / "models" / "forecast-nab" / "1"


def daily(name: str, seed: int) -> Series:
    """A daily wave with noise."""
    rng, hours = np.random.default_rng(seed), np.arange(800)
    values = 100 + 30 * np.sin(hours / 24 * 2 * np.pi + seed) + 3 * rng.normal(size=len(hours))
    values[rng.random(len(hours)) < 0.01] = np.nan
    return Series(name, "real", 0, values)


@pytest.fixture(scope="module")
def trained() -> tuple[list[Series], Nhits]:
    found = [daily("a", 1), daily("b", 2)]
    return found, trainer.train(found, Settings(steps=100, max_epochs=12), seed=3)


def test_a_wave_is_learned_and_its_interval_holds_what_it_says(trained: tuple[list[Series], Nhits]) -> None:
    found, model = trained
    test = windows.cut(found, 0.8, 1, step=5)
    quantiles = np.sort(model.forecast(test.context), axis=2)
    known = np.isfinite(test.target)
    error = np.abs(test.target - quantiles[:, :, 3])[known].mean()
    yesterday = np.abs(test.target - test.context[:, -24:])
    assert error < 0.9 * np.nanmean(yesterday)
    inside = ((test.target >= quantiles[:, :, 0]) & (test.target <= quantiles[:, :, -1]))[known].mean()
    assert 0.8 < inside < 0.98


def test_the_same_model_gives_the_same_bytes_and_examples_cover_what_goes_wrong(
    trained: tuple[list[Series], Nhits], tmp_path: Path
) -> None:
    found, model = trained
    examples = trainer.examples(found)
    for folder in ("one", "two"):
        assert artifact.write(tmp_path / folder, "waves", "h", model, examples) < 1e-4
    files = ["MLmodel", "forecast_spec.json", "golden.jsonl", "model.onnx"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == files
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    lengths = [len(example.context) for example in examples]
    assert min(lengths) == windows.MIN_VALUES and max(lengths) > windows.CONTEXT
    assert any(np.isnan(example.context).any() for example in examples)
    assert any(np.ptp(example.context) == 0 for example in examples)


def test_an_artifact_that_is_not_the_network_is_not_written(
    trained: tuple[list[Series], Nhits], tmp_path: Path
) -> None:
    found, model = trained
    artifact.write(tmp_path / "m", "waves", "h", model, trainer.examples(found))
    other = Nhits.initialise(model.shape, np.random.default_rng(9))
    with pytest.raises(ArtifactError, match="trained: an example differs"):
        artifact.check(tmp_path / "m", other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(FileExistsError, match="choose another folder"):
        artifact.write(tmp_path / "full", "waves", "h", model, [Example("one", [1.0] * 24)])


def test_windows_are_cut_and_filled_as_the_server_does() -> None:
    np.testing.assert_array_equal(artifact.window([1, None, 3], 4), [np.nan, 1, np.nan, 3])
    np.testing.assert_array_equal(artifact.window([1, 2, 3, 4, 5], 4), [2, 3, 4, 5])


def test_the_committed_forecaster_is_whole_and_gives_its_examples() -> None:
    spec = json.loads((COMMITTED / "forecast_spec.json").read_text(encoding="utf-8"))
    for file, digest in spec["files_sha256"].items():
        assert hashlib.sha256((COMMITTED / file).read_bytes()).hexdigest() == digest, file
    shape = Shape(windows.CONTEXT, windows.HORIZON, trainer.QUANTILES)
    assert (spec["context_length"], spec["horizon"], spec["quantiles"]) == (
        shape.context,
        shape.horizon,
        list(shape.quantiles),
    )
    golden = [json.loads(line) for line in (COMMITTED / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    contexts = np.array([artifact.window(row["context"], shape.context) for row in golden])
    wanted = np.array([row["quantiles"] for row in golden])
    got = artifact.run(artifact.session(COMMITTED / "model.onnx"), contexts)
    worst = np.abs(got - wanted).max(axis=(1, 2)) / np.abs(wanted).max(axis=(1, 2))
    assert worst.max() <= spec["golden"]["relative_tolerance"]
