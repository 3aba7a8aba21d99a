"""Command line of the demo: `python -m demo_features --server BINARY --out DIR`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from demo_ctr import stubs
from demo_ctr.errors import DemoError
from demo_ctr.server import Server
from train_ctr.console import Progress

from demo_features import model, seed, text
from demo_features.asking import CANDIDATES, Asker, Crowd
from demo_features.clickhouse import ClickHouse
from demo_features.seed import Sizes

CALLERS, PAUSE_SECONDS = 4, 0.01
# When, in seconds from the start of the scene, ClickHouse is killed, comes back, and the scene ends.
KILLED, BACK, END = 4.0, 12.0, 18.0
WRITTEN_SECONDS = 30.0
STAY_SECONDS = 600


def main() -> int:
    options = _options()
    # Asked to stop, it leaves as on Ctrl-C, so that what it started stops, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options.server, options.out, Sizes(), options.stay)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _run(binary: Path, out: Path, sizes: Sizes, stay: bool) -> int:
    shutil.rmtree(out, ignore_errors=True)
    clickhouse = ClickHouse(out / "clickhouse", out / "clickhouse.log")
    settings = {
        "registry.path": str((out / "models").resolve()),
        "storage.path": str((out / "data").resolve()),
        # So that a few seconds show what an outage of hours would.
        "features.soft_age": "2s",
        "features.absent_age": "2s",
        # These callers have a second: a busy machine must not turn rows that can be had into defaults.
        "features.max_wait": "500ms",
        "prediction_log.sample_rate": 1.0,
        "prediction_log.payload": True,
        **clickhouse.settings(),
    }
    server = Server(binary, settings, out / "server.log")
    try:
        progress = Progress("ClickHouse")
        progress("starting")
        clickhouse.start_and_wait()
        progress(clickhouse.migrate(binary))
        seed.seed(clickhouse, sizes)
        progress.done(f"{sizes.campaigns:,} campaigns, {sizes.rows:,} rows of metrics at {clickhouse.url}")
        progress = Progress(model.MODEL_NAME)
        progress.done(model.train(clickhouse.rows, out / "models" / model.MODEL_NAME / "1", progress))
        progress = Progress("server")
        server.start_and_wait()
        progress.done(f"serves it at {server.grpc}; status page http://{server.http}/")
        asker = Asker(stubs.load(), server.grpc)
        _campaigns(asker, clickhouse, sizes)
        started = int(time.time())
        good = _outage(asker, clickhouse, sizes)
        server.require_running()
        _quality(asker, started)
        if stay:
            _stay(clickhouse, server)
        return 0 if good else 1
    finally:
        server.stop()
        clickhouse.kill()


def _campaigns(asker: Asker, clickhouse: ClickHouse, sizes: Sizes) -> None:
    """Some campaigns, large and small, beside what is true of them."""
    numbers = [0, 9, 99, 999, sizes.campaigns - 1]
    numbers = [number for number in numbers if number < sizes.campaigns]
    true = clickhouse.rows(
        f"SELECT number, {seed.true_ctr('toUInt32(number)', 'toUInt32(today())')} AS ctr, (SELECT sum(impressions_28d) "
        "FROM campaign_features WHERE campaign_id = concat('campaign_', toString(number))) AS impressions "
        f"FROM numbers({sizes.campaigns}) WHERE number IN {tuple(numbers)} ORDER BY number"
    )
    ids = [f"campaign_{number}" for number in numbers] + ["campaign_of_tomorrow"]
    print("\n" + text.campaigns(ids, asker.ask(ids), true))


def _outage(asker: Asker, clickhouse: ClickHouse, sizes: Sizes) -> bool:
    """ClickHouse is killed and comes back while callers ask. Whether no call failed and rows are fresh again."""
    print(f"\n{CALLERS} callers ask for 32 campaigns at a time, by Zipf's law\n")
    print(text.HEADING)
    notes = {int(KILLED): "ClickHouse is killed", int(BACK): "ClickHouse is back"}
    printed = 0
    with Crowd(asker, sizes.campaigns, CALLERS, PAUSE_SECONDS) as crowd:
        killed = back = False
        while crowd.now() < END:
            time.sleep(0.05)
            if not killed and crowd.now() >= KILLED:
                killed = True
                clickhouse.kill()
            if not back and crowd.now() >= BACK:
                back = True
                clickhouse.start_and_wait()
            while printed < int(crowd.now()) and printed in crowd.seconds:
                print(text.second(printed, crowd.seconds[printed], notes.get(printed, "")), flush=True)
                printed += 1
    last = crowd.seconds[printed - 1]
    fresh = last.statuses["PRESENT"] + last.statuses["STALE"] == last.statuses.total()
    print("\n" + text.summary(crowd))
    answered = sum(second.requests - second.failed for second in crowd.seconds.values()) * CANDIDATES
    whole = _logged(clickhouse, answered)
    print(
        f"{answered:,} candidates answered, "
        + ("as many are" if whole else "but not as many")
        + " in the prediction log"
    )
    return not crowd.errors and fresh and whole


def _logged(clickhouse: ClickHouse, answered: int) -> bool:
    """Whether the log comes to hold each answered candidate once; it is written after the replies."""
    deadline = time.monotonic() + WRITTEN_SECONDS
    while time.monotonic() < deadline:
        # The table of campaigns before the outage is in the log, too.
        (log,) = clickhouse.rows(
            "SELECT count() AS rows, uniqExact(request_id, candidate) AS candidates FROM prediction_log "
            "WHERE request_id NOT IN (SELECT request_id FROM prediction_log WHERE campaign_id = 'campaign_of_tomorrow')"
        )
        if log["rows"] == log["candidates"] == answered:
            return True
        time.sleep(0.2)
    return False


def _quality(asker: Asker, started: int) -> None:
    """What the engine says of these predictions, beside the hour's clicks."""
    print("\n" + text.quality(asker.quality(version=1, start=started, end=int(time.time()))))


def _stay(clickhouse: ClickHouse, server: Server) -> None:
    print(f"\nBoth run on, for you to look; Ctrl-C or {STAY_SECONDS // 60} minutes end them. Try:\n")
    print(text.what_to_try(clickhouse.url, server.grpc, server.http))
    time.sleep(STAY_SECONDS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_features", description="Serves a model with features in ClickHouse.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and data; what is there is deleted")
    parser.add_argument("--stay", action="store_true", help="keep both servers until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
