"""Runs the server binary on free local ports and waits until it can answer."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from demo_ctr.errors import DemoError

READY_SECONDS = 60
STOP_SECONDS = 15
LOG_TAIL_LINES = 20


@contextmanager
def running(binary: Path, models: Path) -> Iterator[str]:
    """Serves the versions under `models` (<name>/<version>/) and yields the gRPC address."""
    if not binary.is_file():
        raise DemoError(f"there is no server at {binary}; build it first: cargo build --release")
    grpc_address, http_address = (f"127.0.0.1:{port}" for port in _free_ports(2))
    environment = os.environ | {
        "AIBUYER_SERVER__GRPC_LISTEN": grpc_address,
        "AIBUYER_SERVER__HTTP_LISTEN": http_address,
        "AIBUYER_REGISTRY__PATH": str(models.resolve()),
        "NO_COLOR": "1",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([binary.resolve()], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, f"http://{http_address}/healthz/ready", log)
            yield grpc_address
            if process.poll() is not None:
                raise DemoError(f"the server stopped with status {process.returncode}:\n{_tail(log)}")
        finally:
            _stop(process)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; held together so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    answer = "no connection"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the server stopped with status {process.returncode} before it was ready:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if reply.status == 200:
                    return
                answer = f"status {reply.status}"
        except urllib.error.HTTPError as error:
            answer = f"status {error.code}: {error.read(500).decode(errors='replace').strip()}"
        except OSError as error:
            answer = str(error)
        time.sleep(0.1)
    raise DemoError(f"the server was not ready within {READY_SECONDS} s ({url}: {answer}):\n{_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (it printed nothing)"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
