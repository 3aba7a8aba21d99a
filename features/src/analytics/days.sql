-- Sums by campaign and day, after a given row.
WITH
    ?          AS account,
    ?          AS wanted,
    toDate(?)  AS first,
    toDate(?)  AS last,
    ?          AS after_campaign,
    toDate(?)  AS after_day,
    ?          AS fill,
    selected AS (
        SELECT campaign_id, date AS day, impressions, clicks, spend, conversions
        FROM daily_campaign_summary
        WHERE user_id = account AND date BETWEEN first AND last AND (empty(wanted) OR has(wanted, campaign_id))
    ),
    every_day AS (
        SELECT campaign_id, arrayJoin(arrayMap(n -> first + n, range(toUInt32(last - first) + 1))) AS day
        FROM (SELECT DISTINCT campaign_id FROM selected WHERE fill AND campaign_id >= after_campaign)
    )
SELECT
    s.campaign_id              AS campaign_id,
    s.day                      AS day,
    toString(s.day)            AS date,
    sum(s.impressions)         AS impressions,
    sum(s.clicks)              AS clicks,
    toFloat64(sum(s.spend))    AS spend,
    sum(s.conversions)         AS conversions
FROM (
    SELECT * FROM selected
    UNION ALL
    SELECT campaign_id, day, 0, 0, toDecimal128(0, 2), 0 FROM every_day
) AS s
WHERE (s.campaign_id, s.day) > (after_campaign, after_day)
GROUP BY s.campaign_id, s.day
ORDER BY s.campaign_id, s.day
LIMIT ?
