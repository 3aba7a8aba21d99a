-- Raw facts: one row for each (user_id, campaign_id, timestamp); a re-sent row replaces the earlier one.
-- user_id is the advertiser account that owns the campaign.
-- A table of the same columns that is already there is left as it is, also where its engine has no version column:
-- the row inserted last wins then.
CREATE TABLE IF NOT EXISTS campaign_metrics
(
    user_id     String,
    campaign_id String,
    timestamp   DateTime,
    impressions UInt32,
    clicks      UInt32,
    spend       Decimal(10, 2),
    conversions UInt16,
    ingested_at DateTime64(3) DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(ingested_at)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (user_id, campaign_id, timestamp)
TTL timestamp + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;
