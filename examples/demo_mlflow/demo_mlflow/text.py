"""What the demo prints."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from demo_mlflow.traffic import Answer, Summary, summarise

# From the move of an alias on: load, checks, warm-up, the swap itself, and the old version's end.
SWAP_SECONDS = 1.0
WIDTH = 110


def moved(at: float, version: int, what: str, took: float) -> str:
    return f"{at:5.1f} s  champion → {version}   {what}: version {version} answered {1000 * took:.0f} ms later"


def refused(at: float, version: int, check: str, reason: str) -> str:
    """The reason as the status page has it, in full."""
    head = f"{at:5.1f} s  champion → {version}   refused by check `{check}`, the version before keeps serving:"
    return head + "\n" + textwrap.fill(reason, WIDTH, initial_indent=" " * 26, subsequent_indent=" " * 26)


def callers(answers: Sequence[Answer], moves: Sequence[float]) -> str:
    """Latencies within `SWAP_SECONDS` of a move of the alias and at all other times; and what went wrong."""
    during = [answer for answer in answers if any(0 <= answer.due - move < SWAP_SECONDS for move in moves)]
    chosen = {id(answer) for answer in during}
    quiet = [answer for answer in answers if id(answer) not in chosen]
    total = summarise(answers)
    versions = ", ".join(f"{count:,} by version {version}" for version, count in total.versions.items())
    lines = [
        f"{'':24}{'requests':>10}{'p50':>10}{'p99':>10}",
        _row("between the moves", summarise(quiet)),
        _row(f"{SWAP_SECONDS:.0f} s from each move on", summarise(during)),
        "",
        f"answered: {versions}",
        f"failed: {sum(total.errors.values())}; answers that fit no single version: {total.mixed}",
        *(f"  {count} of {error}" for error, count in total.errors.items()),
    ]
    return "\n".join(lines)


def _row(title: str, seen: Summary) -> str:
    return f"{title:24}{seen.requests:>10,}{1000 * seen.p50:>7.1f} ms{1000 * seen.p99:>7.1f} ms"
