-- Logged numbers by group: as many as there are edges at or below them; -1 where a row has no number.
WITH
    ?                                     AS wanted_model,
    ?                                     AS wanted_version,
    toDateTime(?, 'UTC')                  AS since,
    toDateTime(?, 'UTC')                  AS until,
    CAST(? AS Array(String))              AS names,
    CAST(? AS Array(Array(Float64)))      AS edges,
    arrayMap((name, bounds) -> if(
        mapContains(numbers, name) AND isFinite(numbers[name]),
        toInt32(arrayCount(edge -> edge <= numbers[name], bounds)),
        toInt32(-1)), names, edges)       AS groups
SELECT toUInt32(field) AS field, group, count() AS counted
FROM prediction_log
ARRAY JOIN groups AS group, arrayEnumerate(names) AS field
WHERE model = wanted_model AND model_version = wanted_version AND ts >= since AND ts < until
GROUP BY field, group
