-- Predicted against observed, by bins of the score. Counts of cells without a partner are the row of bin 0.
WITH
    ? AS wanted_model,
    ? AS wanted_version,
    toDateTime(?, 'UTC') AS since,
    toDateTime(?, 'UTC') AS until,
    ? AS bins,
    scored AS (
        SELECT user_id, campaign_id, ts AS at, toFloat64(score) AS score, toUInt64(feature_fallback) AS fallback
        FROM prediction_log
        WHERE model = wanted_model AND model_version = wanted_version AND ts >= since AND ts < until AND isFinite(score)
    ),
    -- Their metrics are taken over all accounts, so that no impression is in two cells.
    without_account AS (SELECT DISTINCT campaign_id FROM scored WHERE user_id = ''),
    -- Grouped together rather than joined: in three quarters of the time.
    both AS (
        SELECT user_id, campaign_id, toStartOfHour(at, 'UTC') AS hour, 1 AS prediction, fallback, score,
               0 AS shown, 0 AS clicked
        FROM scored
        UNION ALL
        SELECT user_id, campaign_id, toStartOfHour(timestamp, 'UTC') AS hour, 0, 0, 0, impressions, clicks
        FROM campaign_metrics FINAL
        WHERE timestamp >= since AND timestamp < until AND campaign_id IN (SELECT campaign_id FROM scored)
    ),
    cells AS (
        SELECT
            sum(b.prediction)                       AS predictions,
            sum(b.fallback)                         AS fallbacks,
            sum(b.score) / greatest(predictions, 1) AS rate,
            sum(b.shown)                            AS impressions,
            least(sum(b.clicked), impressions)      AS clicks,
            sum(b.clicked) - clicks                 AS clicks_beyond,
            predictions > 0 AND impressions > 0     AS whole
        FROM both AS b
        GROUP BY
            if(b.campaign_id IN (SELECT campaign_id FROM without_account), '', b.user_id),
            b.campaign_id,
            b.hour
    ),
    ranked AS (
        SELECT
            *,
            -- Impressions up to and with all cells of this rate: equal rates share a bin.
            sum(impressions) OVER (PARTITION BY whole ORDER BY rate
                                   RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS rank,
            sum(impressions) OVER (PARTITION BY whole)  AS total,
            least(greatest(rate, 1e-15), 1 - 1e-15)     AS sure
        FROM cells
    )
SELECT
    toUInt32(if(c.whole, 1 + intDiv((c.rank - 1) * bins, greatest(c.total, 1)), 0))  AS bin,
    count()                        AS cells,
    min(c.rate)                    AS lowest,
    max(c.rate)                    AS highest,
    sum(c.predictions)             AS predictions,
    sum(c.fallbacks)               AS fallbacks,
    sum(c.impressions)             AS impressions,
    sum(c.clicks)                  AS clicks,
    toUInt64(sum(c.clicks_beyond)) AS clicks_beyond,
    sum(c.impressions * c.rate)    AS predicted_clicks,
    sum(-(c.clicks * log(c.sure)) - (c.impressions - c.clicks) * log1p(-c.sure)) AS loss
FROM ranked AS c
GROUP BY bin
ORDER BY bin
