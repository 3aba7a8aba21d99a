"""Command line of the demo: `python -m demo_ctr --server BINARY --models DIR --out DIR [--csv FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from train_ctr import open_bandit
from train_ctr.console import Progress
from train_ctr.dataset import DataError

from demo_ctr import client, picture, scenario, server, stubs, text, verdict
from demo_ctr.errors import DemoError
from demo_ctr.scenario import Scenario

SAMPLE_CACHE = stubs.REPOSITORY / ".cache" / "open-bandit"


def main() -> int:
    options = _options()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _run(options, _scenario(options, Path(scratch)))
    except (DemoError, DataError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _scenario(options: argparse.Namespace, scratch: Path) -> Scenario:
    if options.csv:
        return scenario.of_upworthy(options.csv, options.models)
    progress = Progress("open bandit sample")
    progress("fetching")
    made = scenario.of_open_bandit(open_bandit.fetch(SAMPLE_CACHE), scratch, progress)
    progress.done("fetched and trained on its first days")
    return made


def _run(options: argparse.Namespace, chosen: Scenario) -> int:
    rows = [row for part in chosen.parts.values() for row in part.inputs]
    ranges = client.request_ranges(rows, chosen.request_key)
    progress = Progress("server")
    progress("starting")
    with server.running(options.server, chosen.models) as address:
        progress.done("ready")
        progress = Progress("replay")
        replies = asyncio.run(
            client.replay(address, stubs.load(), chosen.model_name, rows, ranges, chosen.context, progress)
        )
        progress.done(f"{len(rows):,} candidates answered")
    found = verdict.judge(chosen, replies)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{chosen.model_name}.png"
    picture.draw(path, chosen, found)
    print(f"\n{text.traffic(chosen, replies)}\n{text.figures(chosen, found)}\n\n{text.agreement(found)}")
    print(f"{chosen.caveat}\npicture: {path}")
    return 0 if found.agrees else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_ctr", description="Replays held-out data against a real server.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--models", type=Path, required=True, help="folder of <name>/<version>/")
    parser.add_argument("--out", type=Path, required=True, help="where the picture goes")
    parser.add_argument("--csv", type=Path, help="Upworthy exploratory packages; without it the Open Bandit sample")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
