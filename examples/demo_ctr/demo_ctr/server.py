"""Runs the server binary on free local ports and waits until it can answer."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo_ctr.errors import DemoError
from demo_ctr.process import Process, free_ports

READY_SECONDS = 60


class Server(Process):
    """The server with `settings`, on the same two ports however often it is started."""

    def __init__(self, binary: Path, settings: Mapping[str, object], log: Path) -> None:
        if not binary.is_file():
            raise DemoError(f"there is no server at {binary}; build it first: cargo build --release")
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in free_ports(2))
        given = {"server.grpc_listen": self.grpc, "server.http_listen": self.http} | dict(settings)
        variables = {f"AIBUYER_{key.replace('.', '__').upper()}": _text(value) for key, value in given.items()}
        super().__init__("the server", [binary.resolve()], os.environ | {"NO_COLOR": "1"} | variables, log)

    def start_and_wait(self) -> None:
        """Until every model is ready."""
        self.start()
        self.wait_until_ready(f"http://{self.http}/healthz/ready", READY_SECONDS)


@contextmanager
def running(binary: Path, models: Path) -> Iterator[str]:
    """Serves the versions under `models` (<name>/<version>/) and yields the gRPC address."""
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(binary, {"registry.path": str(models.resolve())}, Path(scratch) / "server.log")
        try:
            server.start_and_wait()
            yield server.grpc
            server.require_running()
        finally:
            server.stop()


def _text(value: object) -> str:
    """What JSON writes for numbers, truth values and lists of texts is TOML, too."""
    return value if isinstance(value, str) else json.dumps(value)
