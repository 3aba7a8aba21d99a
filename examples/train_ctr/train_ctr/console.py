"""Progress on standard error: one line that rewrites itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Call it with what is happening now. Without a terminal, lines come at most every few seconds."""

    QUIET_SECONDS = 2.0

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._start = time.monotonic()
        self._last_line = float("-inf")

    def __call__(self, message: str) -> None:
        now = time.monotonic()
        line = f"{self._prefix}: {message} ({now - self._start:.0f} s)"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif now - self._last_line >= self.QUIET_SECONDS:
            print(line, file=sys.stderr, flush=True)
            self._last_line = now

    def done(self, message: str) -> None:
        """Ends the line with an outcome that stays."""
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{clear}{self._prefix}: {message} ({time.monotonic() - self._start:.0f} s)", file=sys.stderr, flush=True)
