"""What the demo prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demo_features.asking import Answer, Crowd, Second
from demo_features.clickhouse import DATABASE
from demo_features.model import MODEL_NAME

STATUSES = ("PRESENT", "STALE", "ABSENT", "DEFAULTED")
HEADING = (
    f"  {'second':>6} {'requests':>9} {'failed':>7} " + "".join(f"{name:>11}" for name in STATUSES) + "   oldest row"
)


def campaigns(ids: Sequence[str], answer: Answer, true: Sequence[Mapping[str, Any]]) -> str:
    """A table of campaigns: what was predicted, from what, and what is true of them."""
    lines = [f"  {'campaign':<22}{'impressions':>12}{'CTR':>9}  {'90 % interval':>17}{'true CTR':>10}  features"]
    for row, (name, (ctr, lower, upper)) in enumerate(zip(ids, answer.ctr, strict=True)):
        known = true[row] if row < len(true) else None
        impressions = f"{known['impressions']:,}" if known else "0"
        truth = f"{known['ctr']:.2%}" if known else "-"
        status = answer.statuses[row]
        age = f", {answer.ages[row]:.0f} s old" if status in ("PRESENT", "STALE") else ", so defaults"
        interval = f"{lower:.2%} to {upper:.2%}"
        lines.append(f"  {name:<22}{impressions:>12}{ctr:>9.2%}  {interval:>17}{truth:>10}  {status}{age}")
    return "\n".join(lines)


def second(number: int, seen: Second, note: str) -> str:
    """One line of the outage."""
    total = seen.statuses.total() or 1
    shares = "".join(f"{seen.statuses[name] / total:>11.1%}" for name in STATUSES)
    return f"  {number:>6} {seen.requests:>9,} {seen.failed:>7} {shares} {seen.oldest:>10.1f} s   {note}".rstrip()


def summary(crowd: Crowd) -> str:
    """What became of all calls."""
    requests = sum(second.requests for second in crowd.seconds.values())
    failed = sum(second.failed for second in crowd.seconds.values())
    lines = [f"{requests:,} requests, {failed} failed"]
    lines += [f"  {count} x {error}" for error, count in crowd.errors.most_common(3)]
    return "\n".join(lines)


def quality(reply: Any) -> str:
    """Predicted and observed rates by bins of the score, and what has moved since the training."""
    lines = [f"  {'score':>16} {'impressions':>12} {'predicted':>10} {'observed':>9}"]
    for each in reply.bins:
        score = f"{each.lowest_score:.2%} to {each.highest_score:.2%}"
        lines.append(f"  {score:>16} {each.impressions:>12,} {each.predicted_ctr:>10.2%} {each.observed_ctr:>9.2%}")
    figures = reply.figures
    lines.append(
        f"  log loss {figures.log_loss:.4f} ({figures.base_log_loss:.4f} without a model), calibration error "
        f"{figures.calibration_error:.3%}, defaults in {reply.fallback_share:.1%} of the predictions"
    )
    drift = ", ".join(f"{each.feature} {each.psi:.2f}" for each in reply.drift if each.HasField("psi"))
    lines.append(f"  drift since the training (PSI): {drift or reply.drift_unavailable}")
    return "\n".join(lines)


def what_to_try(clickhouse: str, grpc: str, http: str) -> str:
    """Commands for a person who wants to see more."""
    return f"""  target/release/aibuyer-server predict examples/requests/campaigns.json --address {grpc}
  curl '{clickhouse}/?database={DATABASE}' -d 'SELECT * FROM campaign_features LIMIT 3 FORMAT Vertical'
  status page http://{http}/   metrics http://{http}/metrics
  target/release/aibuyer-loadtest closed --address {grpc} --callers 16 \\
      --model out/demo-features/models/{MODEL_NAME}/1"""
