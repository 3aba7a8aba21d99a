-- One row for each scored item; request_id joins clicks and conversions that come later. The age of the features and
-- whether defaults stood in for them make a stale or missing feature visible after the fact.
CREATE TABLE IF NOT EXISTS prediction_log
(
    ts               DateTime64(3) CODEC(Delta, ZSTD(1)),
    request_id       String,
    user_id          String,
    campaign_id      String,
    model            LowCardinality(String),
    model_version    LowCardinality(String),
    score            Float32,
    features         Array(Float32) CODEC(ZSTD(1)),
    feature_age_ms   UInt32,
    feature_fallback Bool,
    latency_us       UInt32
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(ts)
ORDER BY (model, campaign_id, ts)
TTL toDateTime(ts) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;
