#!/usr/bin/env python3
"""Checks and measures the engine on a machine with a GPU, in one command. Python's standard library alone.

Compares predictions on the device with predictions on the CPU, measures every bucket in process (`inspect`) with CUDA
graphs, with bound buffers and with neither, and lets a load generator run where one is given. Prints a page of tables
last and writes it (gpu.md) and results.json.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import report

# `predict` prints percent with three decimals.
ROUNDING = 0.5e-5
TOLERANCE = 1e-3
RUNS = ("graphs", "bound", "plain")


def libraries(wheel: Path | None) -> dict[str, str]:
    """The environment that finds ONNX Runtime in an unzipped wheel, and CUDA in Python's nvidia packages."""
    env = dict(os.environ)
    if wheel is None:
        return env
    found = sorted(wheel.glob("**/libonnxruntime.so*"))
    if not found:
        sys.exit(f"{wheel}: no libonnxruntime.so in there; is it an unzipped onnxruntime-gpu wheel?")
    folders = {str(found[0].parent)}
    for root in {Path(p) / "nvidia" for p in sys.path if p}:
        folders |= {os.path.dirname(p) for p in glob.glob(f"{root}/**/*.so*", recursive=True)}
    known = env.get("LD_LIBRARY_PATH", "")
    env["LD_LIBRARY_PATH"] = ":".join([*sorted(folders), *([known] if known else [])])
    env["ORT_DYLIB_PATH"] = str(found[0])
    return env


def run_times(text: str) -> dict[int, float]:
    """Microseconds by rows, from what `inspect` prints."""
    line = re.search(r"run time\s+µs by rows, (.*)", text)
    return {int(r): float(us) for r, us in re.findall(r"(\d+): ([\d.]+)", line.group(1))} if line else {}


def device_line(text: str) -> str:
    line = re.search(r"^  device\s+(.*)$", text, re.MULTILINE)
    return line.group(1) if line else "unknown"


def rates(text: str) -> list[float]:
    """Rates from the table that `predict` prints."""
    return [float(p) / 100 for p in re.findall(r"^\s*\d+\s+([\d.]+) %", text, re.MULTILINE)]


def logit_error(a: float, b: float) -> float:
    """Relative error of logits beyond what the printed rounding of both rates explains."""
    logit = [math.log(p / (1 - p)) for p in (a, b)]
    slack = sum(ROUNDING / (p * (1 - p)) for p in (a, b))
    return max(0.0, abs(logit[0] - logit[1]) - slack) / max(1.0, abs(logit[0]))


def alike(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose values have the types of the first: a column of a request has one."""
    types: dict[str, str] = {}
    kept = []
    for example in inputs:
        names = {"int": "number", "float": "number"}
        own = {k: names.get(type(v).__name__, type(v).__name__) for k, v in example.items() if v is not None}
        if all(types.get(k, t) == t for k, t in own.items()):
            types |= own
            kept.append(example)
    return kept


def requests(model: Path, count: int) -> dict[str, Any]:
    """A request made of a model's worked examples, over and over, none of them the same in a row."""
    lines = (model / "golden.jsonl").read_text().splitlines()
    inputs = alike([json.loads(line)["inputs"] for line in lines])
    return {
        "model": model.parent.name,
        "candidates": [inputs[i % len(inputs)] for i in range(count)],
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def serving(
    args: argparse.Namespace, env: dict[str, str], models: Path, settings: list[str]
) -> Iterator[tuple[str, str, int]]:
    """A server that is ready; its gRPC and HTTP addresses and process id."""
    grpc, http = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = [
        f"server.grpc_listen={grpc}",
        f"server.http_listen={http}",
        f"registry.path={models}",
        *settings,
    ]
    log = (args.out / f"server-{len(list(args.out.glob('server-*.log')))}.log").open("w")
    command = [args.server, "serve", *flags(settings)]
    process = subprocess.Popen(command, env=env, stderr=log)
    try:
        give_up = time.monotonic() + args.patience
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {Path(log.name).read_text()[-2000:]}")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{http}/healthz/ready", timeout=5),
            ):
                break
            if time.monotonic() > give_up:
                raise RuntimeError(f"the server is not ready: {Path(log.name).read_text()[-2000:]}")
            time.sleep(0.1)
        yield grpc, http, process.pid
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def flags(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def call(command: list[str], env: dict[str, str], stdin: str | None = None) -> str:
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def predictions(args: argparse.Namespace, env: dict[str, str], model: Path, device: str) -> tuple[list[float], str]:
    """Rates of requests of many sizes, and what the status page says of the device."""
    with serving(args, env, model.parent.parent, [f"onnxruntime.device={device}"]) as (
        grpc,
        http,
        _,
    ):
        got: list[float] = []
        for count in args.sizes:
            request = json.dumps(requests(model, count))
            got += rates(call([args.server, "predict", "-", "--address", grpc], env, request))
        with urllib.request.urlopen(f"http://{http}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        placed = [
            line for line in metrics.splitlines() if line.startswith(("aibuyer_device{", "aibuyer_model_device{"))
        ]
        return got, "\n".join(placed)


def compare(args: argparse.Namespace, env: dict[str, str], model: Path) -> dict[str, Any]:
    got, placed = predictions(args, env, model, args.device)
    want, _ = predictions(args, env, model, "cpu")
    if len(got) != sum(args.sizes) or len(want) != len(got):
        raise RuntimeError(f"{len(got)} and {len(want)} predictions, {sum(args.sizes)} asked for")
    worst = max(logit_error(a, b) for a, b in zip(got, want, strict=True))
    return {
        "predictions": len(got),
        "worst_logit_error": worst,
        "right": worst <= TOLERANCE,
        "placed": placed,
    }


def measure(args: argparse.Namespace, env: dict[str, str], model: Path, run: str) -> dict[str, Any]:
    settings = [f"onnxruntime.device={args.device}", f"onnxruntime.cuda_run={run}"]
    settings.append(f"batching.max_batch_rows={args.rows}")
    text = call([args.server, "inspect", str(model), *flags(settings)], env)
    return {"device": device_line(text), "us_by_rows": run_times(text)}


def load(args: argparse.Namespace, env: dict[str, str], model: Path) -> list[dict[str, Any]]:
    """What a closed loop gets answered: one and two lanes on the device, and the CPU with as many lanes as cores."""
    results = []
    ways = [("cpu", "plain", 0)]
    if args.device != "cpu":
        ways += [(args.device, "graphs", 1), (args.device, "graphs", 2), (args.device, "plain", 2)]
    for device, run, count in ways:
        settings = [f"onnxruntime.device={device}", f"onnxruntime.cuda_run={run}", f"batching.lanes={count}"]
        with serving(args, env, model.parent.parent, [*settings, "log.level=warn"]) as (grpc, _, pid):
            for shape in args.loads:
                candidates, callers = shape.split("x")
                command = [args.loadtest, "closed", "--address", grpc, "--model", str(model), "--form", "encoded"]
                command += ["--candidates", candidates, "--callers", callers]
                command += ["--duration", args.duration, "--pid", str(pid)]
                figures = loop(call(command, env))
                results.append({"device": device, "run": run, "lanes": count, "shape": shape, **figures})
    return results


def swaps(args: argparse.Namespace, env: dict[str, str], model: Path) -> list[dict[str, Any]]:
    """What an open loop gets answered while nothing changes, and while new versions go live, one every two seconds."""
    models = args.out / "swaps" / model.parent.name
    shutil.rmtree(models.parent, ignore_errors=True)
    shutil.copytree(model, models / "1")
    results = []
    # By name: encoded requests are for the version whose tables they were encoded with.
    command = [args.loadtest, "open", "--model", str(model), "--form", "named", "--rates", args.swap_rate]
    settings = [f"onnxruntime.device={args.device}", "registry.poll_interval=200ms", "log.level=warn"]
    with serving(args, env, models.parent, settings) as (grpc, _, pid):
        for versions in (0, 5):
            run = subprocess.Popen(
                [*command, "--duration", f"{2 * 5 + 1}s", "--address", grpc, "--pid", str(pid)],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for version in range(2, versions + 2):
                time.sleep(2)
                shutil.copytree(model, models / f".{version}")
                (models / f".{version}").rename(models / f"{version}")
            text, _ = run.communicate(timeout=60)
            results.append({"new_versions": versions, **loop(text)})
    shutil.rmtree(models.parent)
    return results


def loop(text: str) -> dict[str, float]:
    """The figures that a closed loop prints."""
    units = {"ns": 1e-3, "µs": 1.0, "ms": 1e3, "s": 1e6}

    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        if not found:
            raise RuntimeError(f"no {pattern!r} in what the load generator printed: {text[-500:]}")
        unit = units[found.group(2)] if found.lastindex == 2 else 1.0
        return float(found.group(1).replace(",", "")) * unit

    return {
        "requests_per_s": number(r"answered +([\d,.]+)/s"),
        "rows_per_s": number(r"rows +([\d,.]+)/s"),
        "p50_us": number(r"p50 ([\d.]+) (\S+),"),
        "p99_us": number(r"p99 ([\d.]+) (\S+),"),
        "failed": number(r"failed +(\d+) of"),
        "server_cpu_us": number(r"server CPU +([\d,.]+)"),
    }


def ceilings(env: dict[str, str]) -> dict[str, Any]:
    """What the card does by itself, where PyTorch is installed."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("ceilings.py"))],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else {"problem": done.stderr.strip()[-500:]}


def examine(args: argparse.Namespace, env: dict[str, str], model: Path) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    result: dict[str, Any] = {"problems": [], "measure": measured}

    def step(of: dict[str, Any], name: str, what: Callable[[], Any]) -> None:
        # What fails is told, and the rest still measured: time on such a machine is short.
        try:
            of[name] = what()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            result["problems"].append(f"{name} failed: {error}")

    step(result, "compare", lambda: compare(args, env, model))
    for run in RUNS if args.device != "cpu" else ("plain",):
        step(measured, run, partial(measure, args, env, model, run))
    if args.loadtest:
        step(result, "load", lambda: load(args, env, model))
        step(result, "swaps", lambda: swaps(args, env, model))
    return result


def about(args: argparse.Namespace) -> str:
    """Where and when."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (
        f"Written by `loadtest/gpu/gpu.py`. {when}. {names[0] if names else 'unknown'}, {os.cpu_count()} cores for"
        f" server and callers. Run times are of batches in process; loads are closed loops of {args.duration} each;"
        f" versions change under {args.swap_rate} requests a second of 32 candidates."
    )


def self_test() -> None:
    text = "  device    cpu: no GPU\n  run time  µs by rows, 1: 57.1, 2: 60.0, 64: 861.9\n"
    assert run_times(text) == {1: 57.1, 2: 60.0, 64: 861.9} and device_line(text) == "cpu: no GPU"
    assert rates("model m version 1\n\n   0   4.771 %    2.348 % to  8.273 %  {}\n   1   1.0 %  -\n") == [0.04771, 0.01]
    assert alike([{"a": 1}, {"a": "x"}, {"a": 2.5, "b": None}, {"b": ["y"]}]) == [
        {"a": 1},
        {"a": 2.5, "b": None},
        {"b": ["y"]},
    ]
    assert run_times("nothing") == {} and device_line("nothing") == "unknown"
    assert logit_error(0.04771, 0.04771) == 0 and logit_error(0.04771, 0.04772) == 0
    assert logit_error(0.04771, 0.05) > TOLERANCE
    shown = report.page(
        "here", {}, {"m": {"measure": {"plain": {"device": "cpu", "us_by_rows": {64: 640.0}}}, "problems": ["p"]}}
    )
    assert "| 64 | 640 | 100,000 |" in shown and shown.endswith("- p\n"), shown
    words = "answered  9,228/s\n rows 295,306/s\n latency p50 643 µs, p90 11.7 ms, p99 1.5 s, p99.9 2 s\n"
    read = loop(words + "failed  3 of 18503 (0.000 %), 0 dropped\n  server CPU   106 µs/request, 56 MB in memory")
    assert read["requests_per_s"] == 9228 and read["rows_per_s"] == 295306 and read["server_cpu_us"] == 106, read
    assert read["p50_us"] == 643 and read["p99_us"] == 1.5e6 and read["failed"] == 3, read
    print("self-test: passed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="check this script's own parts and end")
    parser.add_argument("--server", default="target/release/aibuyer-server", help="the server's binary")
    parser.add_argument("--wheel", type=Path, help="folder of the unzipped onnxruntime-gpu wheel")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu for a dry run")
    default = ["models/ctr-upworthy/1", ".cache/models/ctr-criteo-shape/1"]
    parser.add_argument(
        "--model",
        action="append",
        type=Path,
        help=f"version folders; default {' and '.join(default)}",
    )
    parser.add_argument("--rows", type=int, default=16384, help="largest bucket to measure")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1, 3, 32, 100, 1000],
        help="candidates of requests to compare",
    )
    parser.add_argument("--loadtest", help="a load generator's binary; left out without one")
    parser.add_argument(
        "--loads",
        nargs="+",
        default=["1x64", "32x64", "256x64", "1000x16"],
        help="candidates x callers of each",
    )
    parser.add_argument("--duration", default="4s", help="of each load")
    parser.add_argument("--swap-rate", default="2000", help="requests a second while versions change")
    parser.add_argument(
        "--patience",
        type=float,
        default=120,
        help="seconds that a server may take to be ready",
    )
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder of results")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    args.out.mkdir(parents=True, exist_ok=True)
    env = libraries(args.wheel)
    card = {} if args.device == "cpu" else ceilings(env)
    results: dict[str, Any] = {}
    for model in [m.resolve() for m in args.model or map(Path, default)]:
        results[model.parent.name] = examine(args, env, model)
    (args.out / "results.json").write_text(
        json.dumps({"device": args.device, "card": card, "models": results}, indent=1)
    )
    page = report.page(about(args), card, results)
    (args.out / "gpu.md").write_text(page)
    print(page)
    bad = any(r["problems"] or not r.get("compare", {}).get("right") for r in results.values())
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
