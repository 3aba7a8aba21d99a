-- Predicted against observed, by bins of the score. Counts of cells without a partner are the row of bin 0.
WITH
    ? AS wanted_model,
    ? AS wanted_version,
    toDateTime(?, 'UTC') AS since,
    toDateTime(?, 'UTC') AS until,
    ? AS bins,
    scored AS (
        SELECT user_id, campaign_id, toStartOfHour(ts, 'UTC') AS hour, score, feature_fallback
        FROM prediction_log
        WHERE model = wanted_model AND model_version = wanted_version AND ts >= since AND ts < until AND isFinite(score)
    ),
    -- Their metrics are taken over all accounts, so that no impression is in two cells.
    without_account AS (SELECT DISTINCT campaign_id FROM scored WHERE user_id = ''),
    predicted AS (
        SELECT
            if(campaign_id IN (SELECT campaign_id FROM without_account), '', user_id) AS account,
            campaign_id,
            hour,
            count()                    AS predictions,
            countIf(feature_fallback)  AS fallbacks,
            avg(toFloat64(score))      AS rate
        FROM scored
        GROUP BY account, campaign_id, hour
    ),
    observed AS (
        SELECT
            if(campaign_id IN (SELECT campaign_id FROM without_account), '', user_id) AS account,
            campaign_id,
            toStartOfHour(timestamp, 'UTC')  AS hour,
            sum(impressions)                 AS shown,
            sum(clicks)                      AS clicked
        FROM campaign_metrics FINAL
        WHERE timestamp >= since AND timestamp < until AND campaign_id IN (SELECT campaign_id FROM scored)
        GROUP BY account, campaign_id, hour
    ),
    cells AS (
        SELECT
            predictions,
            fallbacks,
            rate,
            shown,
            least(clicked, shown)                                      AS clicked_of_shown,
            toUInt64(clicked - clicked_of_shown)                       AS clicked_beyond,
            predictions > 0 AND shown > 0                              AS whole,
            -- Impressions up to and with all cells of this rate: equal rates share a bin.
            sum(shown) OVER (PARTITION BY whole ORDER BY rate
                             RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS rank,
            sum(shown) OVER (PARTITION BY whole)                       AS total,
            least(greatest(rate, 1e-15), 1 - 1e-15)                    AS sure
        FROM predicted FULL JOIN observed USING (account, campaign_id, hour)
    )
SELECT
    toUInt32(if(c.whole, 1 + intDiv((c.rank - 1) * bins, greatest(c.total, 1)), 0))  AS bin,
    count()                 AS cells,
    min(c.rate)             AS lowest,
    max(c.rate)             AS highest,
    sum(c.predictions)      AS predictions,
    sum(c.fallbacks)        AS fallbacks,
    sum(c.shown)            AS impressions,
    sum(c.clicked_of_shown) AS clicks,
    sum(c.clicked_beyond)   AS clicks_beyond,
    sum(c.shown * c.rate)   AS predicted_clicks,
    sum(-(c.clicked_of_shown * log(c.sure)) - (c.shown - c.clicked_of_shown) * log1p(-c.sure)) AS loss
FROM cells AS c
GROUP BY bin
ORDER BY bin
