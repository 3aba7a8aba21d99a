//! Every table and the columns that the migrations give it.

/// A table, view or materialized view.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The migration that makes it; 0 for the record of migrations itself.
    pub(super) version: u32,
    /// Its engine, without what a cluster puts before it.
    pub(super) engine: &'static str,
    /// Whether others write to it and may have added columns of their own.
    pub(super) shared: bool,
    /// One line each: name, type.
    columns: &'static str,
}

/// What a later migration does to a table that an earlier one made.
pub(super) struct Alteration {
    pub(super) table: &'static str,
    pub(super) version: u32,
    /// Columns that it adds.
    pub(super) adds: &'static [&'static str],
    /// Columns that it drops.
    pub(super) drops: &'static [&'static str],
}

pub(super) const ALTERATIONS: [Alteration; 1] = [Alteration {
    table: "prediction_log",
    version: 7,
    adds: &[
        "candidate",
        "score_lower",
        "score_upper",
        "interval_level",
        "numbers",
        "texts",
        "feature_ages_ms",
        "encode_us",
        "features_us",
        "queue_us",
        "compute_us",
        "batch_rows",
    ],
    drops: &["features"],
}];

impl Table {
    /// Name and type of each.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        columns(self.columns)
    }
}

/// Name and type of each line.
pub(crate) fn columns(lines: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    lines.lines().filter_map(|line| line.trim().split_once(' '))
}

/// Sums over a campaign and account, as lookups read them.
const CAMPAIGN_FEATURES: &str = "
    campaign_id String
    user_id String
    computed_at DateTime
    last_event_at DateTime
    impressions_1h UInt64
    clicks_1h UInt64
    spend_1h Float64
    conversions_1h UInt64
    impressions_1d UInt64
    clicks_1d UInt64
    spend_1d Float64
    conversions_1d UInt64
    impressions_7d UInt64
    clicks_7d UInt64
    spend_7d Float64
    conversions_7d UInt64
    impressions_28d UInt64
    clicks_28d UInt64
    spend_28d Float64
    conversions_28d UInt64";

/// Sums over an account.
const USER_FEATURES: &str = "
    user_id String
    computed_at DateTime
    last_event_at DateTime
    campaigns_28d UInt64
    impressions_1h UInt64
    clicks_1h UInt64
    spend_1h Float64
    conversions_1h UInt64
    impressions_1d UInt64
    clicks_1d UInt64
    spend_1d Float64
    conversions_1d UInt64
    impressions_7d UInt64
    clicks_7d UInt64
    spend_7d Float64
    conversions_7d UInt64
    impressions_28d UInt64
    clicks_28d UInt64
    spend_28d Float64
    conversions_28d UInt64";

/// A scored candidate, as the engine writes it.
pub(crate) const PREDICTION_LOG: &str = "
    ts DateTime64(3)
    request_id String
    candidate UInt32
    user_id String
    campaign_id String
    model LowCardinality(String)
    model_version LowCardinality(String)
    score Float32
    score_lower Nullable(Float32)
    score_upper Nullable(Float32)
    interval_level Nullable(Float32)
    numbers Map(LowCardinality(String), Float64)
    texts Map(LowCardinality(String), String)
    feature_ages_ms Map(LowCardinality(String), UInt32)
    feature_age_ms UInt32
    feature_fallback Bool
    encode_us UInt32
    features_us UInt32
    queue_us UInt32
    compute_us UInt32
    latency_us UInt32
    batch_rows UInt32";

pub(super) const TABLES: [Table; 10] = [
    Table {
        name: "schema_migrations",
        version: 0,
        engine: "ReplacingMergeTree",
        shared: false,
        columns: "
            version UInt32
            name String
            applied_at DateTime64(3)",
    },
    Table {
        name: "campaign_metrics",
        version: 1,
        engine: "ReplacingMergeTree",
        shared: true,
        columns: "
            user_id String
            campaign_id String
            timestamp DateTime
            impressions UInt32
            clicks UInt32
            spend Decimal(10, 2)
            conversions UInt16
            ingested_at DateTime64(3)",
    },
    Table { name: "campaign_features", version: 2, engine: "MergeTree", shared: false, columns: CAMPAIGN_FEATURES },
    Table {
        name: "campaign_features_refresh",
        version: 2,
        engine: "MaterializedView",
        shared: false,
        columns: CAMPAIGN_FEATURES,
    },
    Table { name: "user_features", version: 3, engine: "MergeTree", shared: false, columns: USER_FEATURES },
    Table {
        name: "user_features_refresh",
        version: 3,
        engine: "MaterializedView",
        shared: false,
        columns: USER_FEATURES,
    },
    Table {
        name: "daily_campaign_summary",
        version: 4,
        engine: "View",
        shared: false,
        columns: "
            user_id String
            campaign_id String
            date Date
            impressions UInt64
            clicks UInt64
            spend Decimal(38, 2)
            conversions UInt64",
    },
    Table {
        name: "campaign_features_history",
        version: 5,
        engine: "MergeTree",
        shared: false,
        columns: CAMPAIGN_FEATURES,
    },
    Table {
        name: "campaign_features_history_append",
        version: 5,
        engine: "MaterializedView",
        shared: false,
        columns: CAMPAIGN_FEATURES,
    },
    Table { name: "prediction_log", version: 6, engine: "MergeTree", shared: false, columns: PREDICTION_LOG },
];
