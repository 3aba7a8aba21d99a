"""On a real ClickHouse, with the tables that the server makes."""

import math
import shutil
from pathlib import Path

import pytest
from demo_ctr.errors import DemoError
from demo_ctr.stubs import REPOSITORY
from demo_features import model, seed
from demo_features.clickhouse import PYTHON, ClickHouse
from demo_features.seed import Sizes
from train_ctr.spec import build

SERVER = REPOSITORY / "target" / "debug" / "aibuyer-server"
SIZES = Sizes(campaigns=50, advertisers=5, rows=20_000, days=35)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> ClickHouse:
    if not PYTHON.exists() or not SERVER.exists():
        pytest.fail("needs `make clickhouse` and `cargo build --package aibuyer-server`; `make test` does both")
    folder = tmp_path_factory.mktemp("clickhouse")
    started = ClickHouse(folder, folder / "log")
    try:
        started.start_and_wait()
        assert "is at schema version" in started.migrate(SERVER)
        seed.seed(started, SIZES)
        yield started
    finally:
        started.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_snapshots_are_the_sums_of_the_metrics(clickhouse: ClickHouse) -> None:
    (whole,) = clickhouse.rows(
        "SELECT count() AS campaigns, sum(impressions_28d) AS impressions, sum(clicks_28d) AS clicks, "
        "any(computed_at) AS at FROM campaign_features"
    )
    (raw,) = clickhouse.rows(
        "SELECT uniq(campaign_id) AS campaigns, sum(impressions) AS impressions, sum(clicks) AS clicks "
        f"FROM campaign_metrics FINAL WHERE timestamp > toDateTime('{whole['at']}') - INTERVAL 28 DAY "
        f"AND timestamp <= toDateTime('{whole['at']}')"
    )
    assert whole["campaigns"] == SIZES.campaigns
    assert {key: whole[key] for key in raw} == raw


def test_clicks_follow_the_true_rate_and_traffic_zipfs_law(clickhouse: ClickHouse) -> None:
    true = seed.true_ctr("number", "toUInt32(toDate(timestamp))")
    (one,) = clickhouse.rows(
        f"SELECT sum(clicks) AS clicks, sum(impressions * {true}) AS expected "
        "FROM (SELECT *, toUInt32(splitByChar('_', campaign_id)[2]) AS number FROM campaign_metrics FINAL)"
    )
    assert abs(one["clicks"] - one["expected"]) < 5 * math.sqrt(one["expected"])
    rows = clickhouse.rows(
        "SELECT count() AS rows FROM campaign_metrics GROUP BY campaign_id ORDER BY rows DESC LIMIT 3"
    )
    # Of N campaigns number k gets log((k + 2) / (k + 1)) / log(N + 1) of the rows.
    for k, row in enumerate(rows):
        share = math.log((k + 2) / (k + 1)) / math.log(SIZES.campaigns + 1)
        assert abs(row["rows"] / SIZES.rows - share) < 0.02


def test_a_day_is_described_by_what_was_known_as_it_began(clickhouse: ClickHouse) -> None:
    rows = clickhouse.rows(model.EXAMPLES)
    assert len(rows) > SIZES.campaigns
    row = rows[len(rows) // 2]
    (known,) = clickhouse.rows(
        "SELECT sumIf(impressions, at < day AND at >= day - 7) AS impressions_7d, "
        "sumIf(clicks, at < day) AS clicks_28d, sumIf(impressions, at = day) AS label_impressions "
        f"FROM (SELECT *, toDate(timestamp) AS at, toDate('{row['day']}') AS day FROM campaign_metrics FINAL "
        f"WHERE campaign_id = '{row['campaign_id']}') WHERE at >= day - {model.WINDOW}"
    )
    assert known == {key: row[key] for key in known}


def test_the_spec_has_the_constants_that_training_used(clickhouse: ClickHouse) -> None:
    rate = 0.02
    example = {"campaign_id": "a", "clicks_7d": 3, "impressions_7d": 50, "clicks_28d": 9, "impressions_28d": 400}
    inputs = model.inputs(example | {"spend_7d": 1.5}, rate)
    fields = {field["name"]: field for field in build("m", "u", model.plan(rate), [inputs]).spec["fields"]}
    formula = fields["ctr_7d"]["source"]["smoothed"]
    assert inputs["ctr_7d"] == (3 + formula["a"]) / (50 + formula["a"] + formula["b"])
    assert fields["campaign_id"]["source"] == {"kind": "request", "key": "campaign_id"}


def test_clickhouse_is_quoted(clickhouse: ClickHouse, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="UNKNOWN_TABLE"):
        clickhouse.run("SELECT * FROM nowhere")
    with pytest.raises(DemoError, match="refused"):
        stopped = ClickHouse(tmp_path / "clickhouse", tmp_path / "log")
        stopped.run("SELECT 1")
