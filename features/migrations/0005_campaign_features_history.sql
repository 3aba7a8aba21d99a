-- Hourly copies of the online features, for training sets that join on what was known at the time.
CREATE TABLE IF NOT EXISTS campaign_features_history AS campaign_features
ENGINE = MergeTree
PARTITION BY toYYYYMM(computed_at)
ORDER BY (campaign_id, user_id, computed_at)
TTL computed_at + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS campaign_features_history_append
REFRESH EVERY 1 HOUR APPEND TO campaign_features_history
AS SELECT * FROM campaign_features;
