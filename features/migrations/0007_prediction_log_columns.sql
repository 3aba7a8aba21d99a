-- The log as the engine writes it: which candidate of which request, bounds, the stages of its time, and features by name
-- in place of a bare vector, so that a row can be read without the model that it is of.
ALTER TABLE prediction_log
    ADD COLUMN IF NOT EXISTS candidate       UInt32 AFTER request_id,
    ADD COLUMN IF NOT EXISTS score_lower     Nullable(Float32) AFTER score,
    ADD COLUMN IF NOT EXISTS score_upper     Nullable(Float32) AFTER score_lower,
    ADD COLUMN IF NOT EXISTS interval_level  Nullable(Float32) AFTER score_upper,
    ADD COLUMN IF NOT EXISTS numbers         Map(LowCardinality(String), Float64) CODEC(ZSTD(1)) AFTER interval_level,
    ADD COLUMN IF NOT EXISTS texts           Map(LowCardinality(String), String) CODEC(ZSTD(1)) AFTER numbers,
    ADD COLUMN IF NOT EXISTS feature_ages_ms Map(LowCardinality(String), UInt32) AFTER texts,
    ADD COLUMN IF NOT EXISTS encode_us       UInt32 AFTER feature_fallback,
    ADD COLUMN IF NOT EXISTS features_us     UInt32 AFTER encode_us,
    ADD COLUMN IF NOT EXISTS queue_us        UInt32 AFTER features_us,
    ADD COLUMN IF NOT EXISTS compute_us      UInt32 AFTER queue_us,
    ADD COLUMN IF NOT EXISTS batch_rows      UInt32 AFTER latency_us,
    DROP COLUMN IF EXISTS features;

-- A token is remembered for so many inserts of all servers together: one whose acknowledgement was lost, and which is sent
-- again minutes later, must still be known.
ALTER TABLE prediction_log MODIFY SETTING non_replicated_deduplication_window = 10000;
