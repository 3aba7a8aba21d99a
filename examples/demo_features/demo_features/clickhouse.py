"""A real ClickHouse on a port of this machine, with the engine's tables."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from demo_ctr.errors import DemoError
from demo_ctr.process import Process, free_ports
from demo_ctr.stubs import REPOSITORY

DATABASE = "aibuyer"
READY_SECONDS = 60
QUERY_SECONDS = 120
PYTHON = REPOSITORY / ".venv-clickhouse" / "bin" / "python"


class ClickHouse(Process):
    """Tables lie in `folder` and are there again after a kill and a start, at the same URL."""

    def __init__(self, folder: Path, log: Path) -> None:
        if not PYTHON.exists():
            raise DemoError("there is no ClickHouse here: run `make clickhouse`")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        command = [PYTHON, REPOSITORY / "scripts" / "clickhouse.py", folder, "--port", str(port)]
        super().__init__("ClickHouse", command, os.environ, log)

    def start_and_wait(self) -> None:
        self.start()
        self.wait_until_ready(f"{self.url}/ping", READY_SECONDS)

    def settings(self) -> dict[str, str]:
        """What the server needs to use it."""
        return {"clickhouse.url": self.url, "clickhouse.database": DATABASE}

    def run(self, sql: str) -> str:
        """One statement's answer. Raises DemoError with ClickHouse's own words."""
        request = urllib.request.Request(f"{self.url}/?database={DATABASE}", sql.encode())
        try:
            with urllib.request.urlopen(request, timeout=QUERY_SECONDS) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as error:
            raise DemoError(f"ClickHouse: {error.read(500).decode(errors='replace').strip()}") from error
        except OSError as error:
            raise DemoError(f"ClickHouse at {self.url}: {error}") from error

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A query's rows, whole numbers as such."""
        settings = "SETTINGS output_format_json_quote_64bit_integers = 0"
        return [json.loads(line) for line in self.run(f"{sql} {settings} FORMAT JSONEachRow").splitlines()]

    def migrate(self, server: Path) -> str:
        """Makes the tables by the server's own migrations; what it said."""
        flags = [part for key, value in self.settings().items() for part in ("--set", f"{key}={value}")]
        done = subprocess.run([server, *flags, "migrate"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoError(f"the tables could not be made: {done.stderr.strip()}")
        return done.stdout.splitlines()[-1]

    def refresh(self) -> None:
        """Makes the snapshots now that are made each minute."""
        for view in ("campaign_features_refresh", "user_features_refresh"):
            self.run(f"SYSTEM REFRESH VIEW {view}")
            self.run(f"SYSTEM WAIT VIEW {view}")
