"""Fills ClickHouse with campaigns whose true CTR is known, in one statement.

Traffic follows Zipf's law with exponent 1: the number of a row's campaign is log-uniform. A campaign's true log-odds
are normal around the platform's mean and drift from day to day; clicks are binomial. Everything is a hash of numbers,
so the same sizes give the same campaigns, up to the moment that is called now.
"""

from __future__ import annotations

from dataclasses import dataclass

from demo_features.clickhouse import ClickHouse

MEAN_LOGIT, SPREAD, DAILY_SPREAD = -3.9, 0.6, 0.1


@dataclass(frozen=True)
class Sizes:
    """How much there is. `days` reach back from now."""

    campaigns: int = 10_000
    advertisers: int = 500
    rows: int = 1_000_000
    days: int = 35


def uniform(*parts: str) -> str:
    """SQL of a number above 0 and below 1 that depends on `parts` alone."""
    return f"((cityHash64({', '.join(parts)}) % 1000003 + 0.5) / 1000003)"


def normal(*parts: str) -> str:
    """SQL of a standard normal number, by Box and Muller's formula."""
    first, second = uniform(*parts, "'radius'"), uniform(*parts, "'angle'")
    return f"(sqrt(-2 * log({first})) * cos(2 * pi() * {second}))"


def true_ctr(campaign: str, day: str) -> str:
    """SQL of a campaign's true CTR on a day; a campaign's number and the day's are SQL, too."""
    logit = f"{MEAN_LOGIT} + {SPREAD} * {normal(campaign)} + {DAILY_SPREAD} * {normal(campaign, day)}"
    return f"(1 / (1 + exp(-({logit}))))"


def seed(clickhouse: ClickHouse, sizes: Sizes) -> None:
    """Adds the rows, and makes the snapshots."""
    seconds = sizes.days * 86_400
    clickhouse.run(f"""
        INSERT INTO campaign_metrics (user_id, campaign_id, timestamp, impressions, clicks, spend, conversions)
        SELECT concat('user_', toString(campaign % {sizes.advertisers})), concat('campaign_', toString(campaign)), at,
          impressions, clicks, toDecimal64(clicks * (0.2 + {uniform("campaign", "'price'")}), 2),
          toUInt16(arrayCount(i -> cityHash64(n, i, 'buys') % 20 = 0, range(clicks)))
        FROM (
          SELECT n, campaign, at, toUInt32(20 + cityHash64(n, 'size') % 80) AS impressions,
            {true_ctr("campaign", "toUInt32(toDate(at))")} AS ctr,
            toUInt32(arrayCount(i -> {uniform("n", "i")} < ctr, range(impressions))) AS clicks
          FROM (
            SELECT number AS n, toDateTime(now() - cityHash64(number, 'at') % {seconds}) AS at,
              toUInt32(floor(exp({uniform("number", "'campaign'")} * log({sizes.campaigns} + 1)))) - 1 AS campaign
            FROM numbers({sizes.rows})))""")
    clickhouse.refresh()
