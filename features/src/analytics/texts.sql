-- Logged texts by group: the place of the text, or of its digest, among those that are known, from 0; as many as are
-- known for any other; -1 where a row has no text.
WITH
    ?                                     AS wanted_model,
    ?                                     AS wanted_version,
    toDateTime(?, 'UTC')                  AS since,
    toDateTime(?, 'UTC')                  AS until,
    CAST(? AS Array(String))              AS names,
    CAST(? AS Array(Array(String)))       AS plain,
    CAST(? AS Array(Array(String)))       AS digests,
    arrayMap((name, known, hashed) -> multiIf(
        NOT mapContains(texts, name) OR texts[name] = '', toInt32(-1),
        has(known, texts[name]), toInt32(indexOf(known, texts[name])) - 1,
        has(hashed, texts[name]), toInt32(indexOf(hashed, texts[name])) - 1,
        toInt32(length(known))), names, plain, digests) AS groups
SELECT toUInt32(field) AS field, toInt32(group) AS group, count() AS counted
FROM prediction_log
ARRAY JOIN groups AS group, arrayEnumerate(names) AS field
WHERE model = wanted_model AND model_version = wanted_version AND ts >= since AND ts < until
GROUP BY field, group
