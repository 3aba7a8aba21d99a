-- Online features: one row a campaign, computed once a minute from FINAL rows and swapped in as a whole, so that a
-- replaced row counts once, windows slide with time, and a lookup reads one granule.
-- Sums only: ratios are made by the engine from constants that travel with the model, so that training and serving
-- share one definition.
CREATE TABLE IF NOT EXISTS campaign_features
(
    campaign_id     String,
    user_id         String,
    computed_at     DateTime,
    last_event_at   DateTime,
    impressions_1h  UInt64, clicks_1h  UInt64, spend_1h  Float64, conversions_1h  UInt64,
    impressions_1d  UInt64, clicks_1d  UInt64, spend_1d  Float64, conversions_1d  UInt64,
    impressions_7d  UInt64, clicks_7d  UInt64, spend_7d  Float64, conversions_7d  UInt64,
    impressions_28d UInt64, clicks_28d UInt64, spend_28d Float64, conversions_28d UInt64
)
ENGINE = MergeTree
ORDER BY (campaign_id, user_id)
SETTINGS index_granularity = 256;

CREATE MATERIALIZED VIEW IF NOT EXISTS campaign_features_refresh
REFRESH EVERY 1 MINUTE TO campaign_features
AS
WITH now() AS as_of
SELECT
    campaign_id,
    user_id,
    as_of                                                             AS computed_at,
    max(timestamp)                                                    AS last_event_at,
    sumIf(impressions, timestamp > as_of - INTERVAL 1 HOUR)           AS impressions_1h,
    sumIf(clicks,      timestamp > as_of - INTERVAL 1 HOUR)           AS clicks_1h,
    toFloat64(sumIf(spend, timestamp > as_of - INTERVAL 1 HOUR))      AS spend_1h,
    sumIf(conversions, timestamp > as_of - INTERVAL 1 HOUR)           AS conversions_1h,
    sumIf(impressions, timestamp > as_of - INTERVAL 1 DAY)            AS impressions_1d,
    sumIf(clicks,      timestamp > as_of - INTERVAL 1 DAY)            AS clicks_1d,
    toFloat64(sumIf(spend, timestamp > as_of - INTERVAL 1 DAY))       AS spend_1d,
    sumIf(conversions, timestamp > as_of - INTERVAL 1 DAY)            AS conversions_1d,
    sumIf(impressions, timestamp > as_of - INTERVAL 7 DAY)            AS impressions_7d,
    sumIf(clicks,      timestamp > as_of - INTERVAL 7 DAY)            AS clicks_7d,
    toFloat64(sumIf(spend, timestamp > as_of - INTERVAL 7 DAY))       AS spend_7d,
    sumIf(conversions, timestamp > as_of - INTERVAL 7 DAY)            AS conversions_7d,
    sum(impressions)                                                  AS impressions_28d,
    sum(clicks)                                                       AS clicks_28d,
    toFloat64(sum(spend))                                             AS spend_28d,
    sum(conversions)                                                  AS conversions_28d
FROM campaign_metrics FINAL
WHERE timestamp > as_of - INTERVAL 28 DAY AND timestamp <= as_of
GROUP BY campaign_id, user_id;
