-- The same for the account, from the campaigns' rows: refreshed after them, so both are of one time.
CREATE TABLE IF NOT EXISTS user_features
(
    user_id         String,
    computed_at     DateTime,
    last_event_at   DateTime,
    campaigns_28d   UInt64,
    impressions_1h  UInt64, clicks_1h  UInt64, spend_1h  Float64, conversions_1h  UInt64,
    impressions_1d  UInt64, clicks_1d  UInt64, spend_1d  Float64, conversions_1d  UInt64,
    impressions_7d  UInt64, clicks_7d  UInt64, spend_7d  Float64, conversions_7d  UInt64,
    impressions_28d UInt64, clicks_28d UInt64, spend_28d Float64, conversions_28d UInt64
)
ENGINE = MergeTree
ORDER BY user_id
SETTINGS index_granularity = 256;

CREATE MATERIALIZED VIEW IF NOT EXISTS user_features_refresh
REFRESH EVERY 1 MINUTE DEPENDS ON campaign_features_refresh TO user_features
AS
SELECT
    user_id,
    min(f.computed_at)     AS computed_at,
    max(f.last_event_at)   AS last_event_at,
    count()                AS campaigns_28d,
    sum(f.impressions_1h)  AS impressions_1h,  sum(f.clicks_1h)  AS clicks_1h,  sum(f.spend_1h)  AS spend_1h,  sum(f.conversions_1h)  AS conversions_1h,
    sum(f.impressions_1d)  AS impressions_1d,  sum(f.clicks_1d)  AS clicks_1d,  sum(f.spend_1d)  AS spend_1d,  sum(f.conversions_1d)  AS conversions_1d,
    sum(f.impressions_7d)  AS impressions_7d,  sum(f.clicks_7d)  AS clicks_7d,  sum(f.spend_7d)  AS spend_7d,  sum(f.conversions_7d)  AS conversions_7d,
    sum(f.impressions_28d) AS impressions_28d, sum(f.clicks_28d) AS clicks_28d, sum(f.spend_28d) AS spend_28d, sum(f.conversions_28d) AS conversions_28d
FROM campaign_features AS f
GROUP BY user_id;
