"""A program that answers HTTP: started, waited for, stopped, and quoted from its log when it does not come up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo_ctr.errors import DemoError

STOP_SECONDS = 15
LOG_TAIL_LINES = 20


def free_ports(count: int) -> list[int]:
    """Ports that are free now; held together so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


class Process:
    """One program, which may be started again after it stopped. Its output is added to the file `log`."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._name = name
        self._command = command
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Returns at once. The child leads a group of its own, so that Ctrl-C leaves the order of stopping to us."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, url: str, seconds: float) -> None:
        """Until `url` answers 200. Raises DemoError with the log's end if that does not happen in time."""
        deadline = time.monotonic() + seconds
        answer = "no connection"
        while time.monotonic() < deadline:
            self.require_running("before it was ready")
            try:
                with urllib.request.urlopen(url, timeout=2) as reply:
                    if reply.status == 200:
                        return
                    answer = f"status {reply.status}"
            except urllib.error.HTTPError as error:
                answer = f"status {error.code}: {error.read(500).decode(errors='replace').strip()}"
            except OSError as error:
                answer = str(error)
            time.sleep(0.05)
        raise DemoError(f"{self._name} was not ready within {seconds:.0f} s ({url}: {answer}):\n{self.tail()}")

    def require_running(self, when: str = "too early") -> None:
        """Raises DemoError with the log's end if it has stopped."""
        status = self._running().poll()
        if status is not None:
            raise DemoError(f"{self._name} stopped with status {status} {when}:\n{self.tail()}")

    def stop(self) -> None:
        """Asks it to stop, and makes it after a while. Nothing happens if it is not running."""
        if self._child is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends it, and whatever it started, without notice."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def tail(self) -> str:
        """The last lines of the log, and where it is."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  | {line}" for line in lines or ["(it printed nothing)"]) + f"\n  the whole log: {self.log}"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise DemoError(f"{self._name} has not been started")
        return self._child

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running().pid, number)
