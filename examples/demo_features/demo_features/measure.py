"""What stored features cost a request: `python -m demo_features.measure --server BINARY --out DIR`.

Requests that name 32 campaigns take turns with requests that carry the same campaigns' features, one at a time over one
connection, so that both see the same machine. All rows are in memory. The difference of the medians is what looking up
adds, less what decoding the features would take.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from demo_ctr import stubs
from demo_ctr.client import build_column
from demo_ctr.server import Server

from demo_features import model, seed
from demo_features.asking import CANDIDATES, zipf
from demo_features.clickhouse import ClickHouse
from demo_features.seed import Sizes

REQUESTS, BLOCKS, PER_BLOCK = 256, 20, 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo_features.measure", description="Times stored against carried features.")
    parser.add_argument("--server", type=Path, required=True, help="the aibuyer-server binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and data; what is there is deleted")
    parser.add_argument("--mirror", action="store_true", help="mirror the view instead of caching it")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    clickhouse = ClickHouse(options.out / "clickhouse", options.out / "clickhouse.log")
    settings = {
        "registry.path": str((options.out / "models").resolve()),
        "storage.path": str((options.out / "data").resolve()),
        "features.soft_age": "1h",
        "features.mirror": ["campaign"] if options.mirror else [],
        **clickhouse.settings(),
    }
    server = Server(options.server, settings, options.out / "server.log")
    try:
        clickhouse.start_and_wait()
        clickhouse.migrate(options.server)
        seed.seed(clickhouse, Sizes())
        model.train(clickhouse.rows, options.out / "models" / model.MODEL_NAME / "1", lambda _: None)
        server.start_and_wait()
        print(_compare(stubs.load(), server.grpc, clickhouse))
    finally:
        server.stop()
        clickhouse.kill()
    return 0


def _compare(pb: stubs.Stubs, address: str, clickhouse: ClickHouse) -> str:
    named, carrying = _requests(pb, clickhouse)
    blocks: list[dict[str, float]] = []
    with grpc.insecure_channel(address) as channel:
        call = pb.ctr_grpc.CtrServiceStub(channel).PredictCtr
        for request in named + carrying:
            call(request)
        for _ in range(BLOCKS):
            took: dict[str, list[float]] = {"stored": [], "carried": [], "features": []}
            for number in range(PER_BLOCK):
                for kind, requests in (("stored", named), ("carried", carrying)):
                    start = time.perf_counter()
                    reply = call(requests[number % REQUESTS])
                    took[kind].append(time.perf_counter() - start)
                    if kind == "stored":
                        took["features"].append(reply.timings.features_ns / 1e9)
            blocks.append({kind: 1e6 * statistics.median(values) for kind, values in took.items()})
    lines = [f"p50 in µs, median of {BLOCKS} blocks of {PER_BLOCK} requests of each kind (least to most)"]
    for name, read in {
        "stored features": lambda block: block["stored"],
        "carried features": lambda block: block["carried"],
        "stored less carried": lambda block: block["stored"] - block["carried"],
        "looking up, on the server": lambda block: block["features"],
    }.items():
        values = sorted(read(block) for block in blocks)
        lines.append(f"  {name:<26}{statistics.median(values):>8.1f} ({values[0]:.1f} to {values[-1]:.1f})")
    return "\n".join(lines)


def _requests(pb: stubs.Stubs, clickhouse: ClickHouse) -> tuple[list[Any], list[Any]]:
    """Of the same campaigns, by Zipf's law."""
    draw = random.Random(1)
    known = {row["campaign_id"]: row for row in clickhouse.rows("SELECT * FROM campaign_features")}
    named, carrying = [], []
    for _ in range(REQUESTS):
        ids = [zipf(draw, len(known)) for _ in range(CANDIDATES)]
        features = [model.inputs(known[name], rate=0.02) for name in ids]
        for requests, names in ((named, ["campaign_id"]), (carrying, list(features[0]))):
            columns = [build_column(pb, name, [row[name] for row in features]) for name in names]
            selector = pb.model.ModelSelector(name=model.MODEL_NAME)
            requests.append(pb.ctr.PredictCtrRequest(model=selector, candidates=columns, include_timings=True))
    return named, carrying


if __name__ == "__main__":
    sys.exit(main())
