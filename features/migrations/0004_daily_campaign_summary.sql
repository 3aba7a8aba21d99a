-- Daily series. A plain view over FINAL: it never counts a replaced row twice and is never stale. Filter it by user_id
-- (and campaign_id): it reads those granules only.
CREATE VIEW IF NOT EXISTS daily_campaign_summary AS
SELECT
    user_id,
    campaign_id,
    toDate(timestamp) AS date,
    sum(impressions)  AS impressions,
    sum(clicks)       AS clicks,
    sum(spend)        AS spend,
    sum(conversions)  AS conversions
FROM campaign_metrics FINAL
GROUP BY user_id, campaign_id, date;
