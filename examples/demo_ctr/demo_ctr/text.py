"""What the demo prints."""

from __future__ import annotations

import numpy as np

from demo_ctr.client import IN_FLIGHT, Replies
from demo_ctr.scenario import Scenario
from demo_ctr.verdict import LOGIT_TOLERANCE, Figures, Verdict


def traffic(scenario: Scenario, replies: Replies) -> str:
    """Throughput and latency, as this one Python client saw them."""
    requests, candidates = len(replies.latencies), len(replies.ctr)
    p50, p99 = 1000 * np.percentile(replies.latencies, [50, 99])
    return (
        f"{scenario.title}\n"
        f"model {scenario.model_name} version {replies.version}, intervals at {replies.level:.0%}\n\n"
        f"{candidates:,} candidates in {requests:,} requests, {IN_FLIGHT} in flight: {replies.wall_seconds:.1f} s\n"
        f"{candidates / replies.wall_seconds:,.0f} candidates/s, {requests / replies.wall_seconds:,.0f} requests/s, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms\n"
        "(what one Python process could send and read; `make bench` measures the server)"
    )


def figures(scenario: Scenario, verdict: Verdict) -> str:
    """Each part's figures: from the replies, and from the same model in process."""
    lines = []
    for name, label in scenario.labels.items():
        served, local = verdict.served[name], verdict.local[name]
        size = served.quality
        lines += [
            f"\n{label}: {len(served.units.clicks):,} units, {size.impressions:,} impressions, {size.clicks:,} clicks",
            f"  {'':38}{'server':>10}{'in process':>13}",
        ]
        lines += [f"  {title:38}{a:>10}{b:>13}" for title, a, b in _rows(served, local)]
        lines += _coverage(served)
    return "\n".join(lines)


def agreement(verdict: Verdict) -> str:
    """Whether the server computes what the trainer computes."""
    outcome = "they agree" if verdict.agrees else "THEY DISAGREE"
    return (
        f"server against in process: {outcome}. Largest logit difference {verdict.logit_difference:.1e} "
        f"(allowed {LOGIT_TOLERANCE:.0e}),\nlargest relative variance difference "
        f"{verdict.variance_relative_difference:.1e}"
    )


def _coverage(served: Figures) -> list[str]:
    units, found = len(served.units.clicks), served.intervals
    lines = [f"  {round(found.raw_90 * units):,} of {units:,} intervals contain the observed CTR."]
    if not served.observed_ctr_tells:
        lines.append("  That says nothing: most units have too few clicks, and an observed CTR of 0 is in no interval.")
    return [
        *lines,
        "  Observed CTRs carry the binomial noise of their clicks; allowing for it,",
        f"  {found.predictive[0.9]:.1%} +- {found.standard_error:.1%} (standard error) of units are covered.",
    ]


def _rows(served: Figures, local: Figures) -> list[tuple[str, str, str]]:
    def row(title: str, style: str, pick: str) -> tuple[str, str, str]:
        return title, style.format(getattr(served.quality, pick)), style.format(getattr(local.quality, pick))

    covered, ours = served.intervals, local.intervals
    return [
        row("AUC", "{:.4f}", "auc"),
        row("log loss", "{:.5f}", "log_loss"),
        row("ECE", "{:.5f}", "ece"),
        ("coverage of 90% intervals", f"{covered.predictive[0.9]:.1%}", f"{ours.predictive[0.9]:.1%}"),
        ("observed CTR inside the bounds", f"{covered.raw_90:.1%}", f"{ours.raw_90:.1%}"),
    ]
