"""Command line of the reference trainer: `python -m train_ctr upworthy|obd|check ...`."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path

from train_ctr import artifact, experiment, open_bandit, plots, register, report, upworthy
from train_ctr.console import Progress
from train_ctr.dataset import DataError
from train_ctr.experiment import Experiment
from train_ctr.mlflow_rest import MlflowError, Provenance, Registry
from train_ctr.self_check import ArtifactError, CheckReport, check_artifact

DEFAULT_SEEDS = (7, 8, 9, 10)
PART_NAMES = {"test": "warm: tests seen in training", "cold_test": "cold: tests never seen"}


def main() -> int:
    options = _parser().parse_args()
    try:
        options.command(options)
    except (DataError, ArtifactError, FileExistsError, MlflowError) as error:
        print(f"train_ctr: {error}", file=sys.stderr)
        return 1
    return 0


def train_upworthy(options: argparse.Namespace) -> None:
    if options.register:
        # Asked before the training: an address that is wrong is better known now.
        Registry(options.register).experiment(options.name)
    creatives = upworthy.read_creatives(options.csv)
    print(f"{len(creatives):,} creatives in {len({c.test_id for c in creatives}):,} tests", file=sys.stderr)
    experiments: list[Experiment] = []
    for seed in options.seeds:
        progress = Progress(f"seed {seed}")
        experiments.append(experiment.run(upworthy.dataset(creatives, seed), seed, progress))
        progress.done(f"trained, best epoch {experiments[-1].epochs}")
    first = experiments[0]
    _announce(options.out, artifact.write(options.out, first.contents))

    print(report.table(experiments, PART_NAMES))
    print(
        "\nOn this data the linear model is as good as DeepFM: there are few interactions to learn. Coverage allows\n"
        "for the binomial noise of each creative's clicks; it speaks of creatives like these, not of later years."
    )
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        report.write_json(options.report / "report.json", experiments)
        plots.calibration(options.report / "calibration.png", first)
        plots.coverage(options.report / "coverage.png", experiments)
        print(f"report: {options.report}/report.json, calibration.png, coverage.png")
    if options.register:
        _register(options, first)


def train_open_bandit(options: argparse.Namespace) -> None:
    sdist = options.sdist or open_bandit.fetch(options.cache)
    impressions = open_bandit.read_impressions(sdist)
    progress = Progress("open bandit sample")
    result = experiment.run(open_bandit.dataset(impressions), DEFAULT_SEEDS[0], progress)
    progress.done(f"trained, best epoch {result.epochs}")
    _announce(options.out, artifact.write(options.out, result.contents))
    test = result.evaluations["test"]
    print(
        f"later impressions: {test.quality.impressions:,} with {test.quality.clicks} clicks\n"
        f"AUC {test.quality.auc:.3f} +- {test.auc_standard_error:.3f} (standard error), "
        f"linear baseline {test.linear.auc:.3f}\n"
        f"The whole sample has {sum(impression.clicked for impression in impressions)} clicks. That is far too few "
        "to say\nanything about a model's quality, and nothing is claimed here."
    )


def check(options: argparse.Namespace) -> None:
    _announce(options.directory, check_artifact(options.directory))


def _announce(directory: Path, found: CheckReport) -> None:
    print(
        f"{directory}: {found.files} files and {found.golden_rows} golden rows check out "
        f"(largest logit difference {found.logit_difference:.1e})"
    )


def _register(options: argparse.Namespace, first: Experiment) -> None:
    settings = dataclasses.asdict(upworthy.SETTINGS)
    provenance = Provenance(
        params={"seed": first.seed, "best_epoch": first.epochs, **settings},
        tags={"data_file": options.csv.name, "data_sha256": hashlib.sha256(options.csv.read_bytes()).hexdigest()},
        metrics=report.metrics(first),
    )
    version = register.register(options.out, Registry(options.register), options.name, options.alias, provenance)
    print(f"registered as version {version} of {options.name}, alias {options.alias}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_ctr", description="Trains a CTR model that aibuyer can serve.")
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("upworthy", help="train on the Upworthy Research Archive")
    command.set_defaults(command=train_upworthy)
    command.add_argument("--csv", type=Path, required=True, help="exploratory packages, .csv or .csv.gz")
    command.add_argument("--out", type=Path, required=True, help="folder of the model version")
    command.add_argument(
        "--seeds",
        type=_seeds,
        default=DEFAULT_SEEDS,
        help="comma-separated, one whole run each; the first one's model is written (default: 7,8,9,10)",
    )
    command.add_argument("--report", type=Path, metavar="DIR", help="write report.json and two plots here")
    command.add_argument("--register", metavar="TRACKING_URI", help="register the version in this MLflow")
    command.add_argument("--name", default=upworthy.MODEL_NAME, help="registered model (default: %(default)s)")
    command.add_argument("--alias", default="challenger", help="alias to move (default: %(default)s)")

    command = commands.add_parser("obd", help="train on the small Open Bandit sample")
    command.set_defaults(command=train_open_bandit)
    where = command.add_mutually_exclusive_group()
    where.add_argument("--sdist", type=Path, help=f"a copy of {open_bandit.SDIST}")
    where.add_argument(
        "--cache",
        type=Path,
        default=Path(".cache/open-bandit"),
        help="where pip downloads it to (default: %(default)s)",
    )
    command.add_argument("--out", type=Path, required=True, help="folder of the model version")

    command = commands.add_parser("check", help="check a model version as the server would")
    command.set_defaults(command=check)
    command.add_argument("directory", type=Path)
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
