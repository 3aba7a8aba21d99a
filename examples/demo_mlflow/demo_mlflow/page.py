"""What the server says of itself over HTTP: the status page, as a person reads it, and metrics."""

from __future__ import annotations

import re
import time
import urllib.request
from html import unescape

from demo_ctr.errors import DemoError

LOOK_SECONDS = 0.02


def text(http: str) -> str:
    """The status page without its markup; a line for each row of its table, paragraph or entry of a list."""
    page = re.sub(r"<style>.*?</style>", "", _read(f"http://{http}/"), flags=re.S)
    lines = re.sub(r"<(tr|p|li|h1|h2|table)\b[^>]*>", "\n", page)
    return unescape(re.sub(r"[ \t]+", " ", re.sub(r"<[^>]+>", " ", lines)))


def failed_check(http: str, model: str, version: int) -> str | None:
    """The check that the version failed, as the metrics label it."""
    for line in _read(f"http://{http}/metrics").splitlines():
        if line.startswith("aibuyer_model_load_failures{"):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
            if (labels["model"], labels["version"]) == (model, str(version)):
                return labels["check"]
    return None


def wait_for_refusal(http: str, model: str, version: int, seconds: float) -> tuple[str, str]:
    """The check that refused the version, and its reason from the page. Raises DemoError if it never comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check = failed_check(http, model, version)
        for line in text(http).splitlines() if check else ():
            found = re.match(rf"\s*{check}: (.*?)\s*$", line)
            if check and found:
                return check, found.group(1)
        time.sleep(LOOK_SECONDS)
    raise DemoError(
        f"version {version} of {model} was not refused within {seconds:.0f} s; the page says:\n{text(http)}"
    )


def wait_for(http: str, words: str, seconds: float) -> None:
    """Until the page says `words`. Raises DemoError if it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if words in text(http):
            return
        time.sleep(LOOK_SECONDS)
    raise DemoError(f"the status page did not say {words!r} within {seconds:.0f} s; it says:\n{text(http)}")


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
