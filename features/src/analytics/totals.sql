-- Sums over a whole selection.
WITH
    ?          AS account,
    ?          AS wanted,
    toDate(?)  AS first,
    toDate(?)  AS last
SELECT
    uniqExact(campaign_id)     AS campaigns,
    count()                    AS days,
    sum(s.impressions)         AS impressions,
    sum(s.clicks)              AS clicks,
    toFloat64(sum(s.spend))    AS spend,
    sum(s.conversions)         AS conversions
FROM daily_campaign_summary AS s
WHERE user_id = account AND date BETWEEN first AND last AND (empty(wanted) OR has(wanted, campaign_id))
