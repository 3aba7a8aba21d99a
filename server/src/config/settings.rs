//! Every setting there is: its key, its default and what it means.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Dotted key: `section.name`.
    pub key: &'static str,
    /// Default, as TOML.
    pub default: &'static str,
    /// What it means, for the commented configuration.
    pub help: &'static str,
}

/// All settings, in the order in which `aibuyer-server config` prints them.
pub const SETTINGS: [Setting; 58] = [
    Setting {
        key: "server.grpc_listen",
        default: "\"127.0.0.1:8500\"",
        help: "Address of the gRPC services. Port 0 picks a free one. 0.0.0.0 opens it to other machines.",
    },
    Setting {
        key: "server.grpc_threads",
        default: "0",
        help: "Threads that speak gRPC, each with connections of its own. 0: one for each core.",
    },
    Setting {
        key: "server.http_listen",
        default: "\"127.0.0.1:8501\"",
        help: "Address of the status page, /metrics, /healthz/live, /healthz/ready and /webhooks/mlflow.",
    },
    Setting {
        key: "server.shutdown_grace",
        default: "\"20s\"",
        help: "On SIGTERM, how long requests under way may still take.",
    },
    Setting {
        key: "registry.path",
        default: "\"models\"",
        help: "Folder of models: <name>/<version>/, with an optional <name>/aliases.yaml. Not looked at where\n\
               registry.mlflow_url is set.",
    },
    Setting {
        key: "registry.mlflow_url",
        default: "\"\"",
        help: "Base URL of an MLflow server to serve from, such as \"http://mlflow:5000\"; with a path where it has a\n\
               static prefix. Empty: the folder registry.path.",
    },
    Setting {
        key: "registry.models",
        default: "[]",
        help: "MLflow: the registered models to serve, such as [\"ctr-upworthy\"].",
    },
    Setting {
        key: "registry.filter",
        default: "\"\"",
        help: "MLflow: in place of registry.models, a search filter that finds them, such as \"tags.serve = 'true'\" or\n\
               \"name LIKE 'ctr-%'\".",
    },
    Setting {
        key: "registry.aliases",
        default: "[]",
        help: "MLflow: the aliases whose versions are served, beside registry.default_alias. Empty: all.",
    },
    Setting {
        key: "registry.default_alias",
        default: "\"champion\"",
        help: "The alias whose version answers a request that names neither alias nor version.",
    },
    Setting {
        key: "registry.poll_interval",
        default: "\"0s\"",
        help: "How often the registry is looked at. A folder: 100ms or more, \"0s\" means 1s. MLflow: 1s or more, \"0s\"\n\
               means 10s; a webhook makes it look at once.",
    },
    Setting {
        key: "registry.username",
        default: "\"\"",
        help: "MLflow: user for basic authentication. Empty: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, if set.",
    },
    Setting {
        key: "registry.password_file",
        default: "\"\"",
        help: "MLflow: file that holds the password of registry.username.",
    },
    Setting {
        key: "registry.token_file",
        default: "\"\"",
        help: "MLflow: file that holds a bearer token, for a proxy before MLflow. Empty: MLFLOW_TRACKING_TOKEN, if set.",
    },
    Setting {
        key: "registry.ca_file",
        default: "\"\"",
        help: "MLflow: file of PEM certificates to trust beside the system's.",
    },
    Setting {
        key: "registry.workspace",
        default: "\"\"",
        help: "MLflow: the workspace (X-MLFLOW-WORKSPACE), on a server that has them.",
    },
    Setting {
        key: "registry.webhook_secret_file",
        default: "\"\"",
        help: "MLflow: file that holds the secret of the webhook that posts to /webhooks/mlflow at server.http_listen.\n\
               Empty: no webhook is taken.",
    },
    Setting {
        key: "registry.fetch_timeout",
        default: "\"10m\"",
        help: "MLflow: how long the files of one version may take to arrive.",
    },
    Setting {
        key: "registry.max_model_bytes",
        default: "8589934592",
        help: "MLflow: size of one version's files together, in bytes.",
    },
    Setting {
        key: "registry.require_manifest",
        default: "false",
        help: "MLflow: refuse versions without a tag aibuyer.manifest, which gives the SHA-256 of each file as JSON:\n\
               {\"model.onnx\": \"9f86d0...\", ...}. A version that has the tag must always match it.",
    },
    Setting {
        key: "storage.path",
        default: "\"data\"",
        help: "Folder for what outlives a restart: fetched versions, the promotion log, which says what answered last, and\n\
               what of the prediction log ClickHouse has not taken.",
    },
    Setting {
        key: "storage.keep_versions",
        default: "3",
        help: "Fetched versions of each model that stay on disk beside those in use.",
    },
    Setting {
        key: "loading.keep_warm",
        default: "\"10m\"",
        help: "How long a version that was replaced stays loaded, so that a rollback is instant; two of a model at most.",
    },
    Setting {
        key: "loading.signature",
        default: "\"compatible\"",
        help: "compatible: a version that takes over must take every request that the one before it takes.\n\
               any: it may ask for other features, inputs or outputs.",
    },
    Setting {
        key: "loading.max_slowdown",
        default: "3.0",
        help: "A version that takes over may take so many times as long for a batch as the one before it. 0: any time.",
    },
    Setting {
        key: "onnxruntime.library",
        default: "\"\"",
        help: "Path of ONNX Runtime's shared library. Empty: ORT_DYLIB_PATH, else beside the binary, else make's\n\
               download in .cache/onnxruntime.",
    },
    Setting {
        key: "onnxruntime.device",
        default: "\"auto\"",
        help: "Where models run: cpu; cuda:N, GPU number N or no start; auto: cuda:0 where it can be used, else the\n\
               CPU, and the log, the status page and the metric aibuyer_device say why.",
    },
    Setting {
        key: "onnxruntime.device_memory",
        default: "0",
        help: "Bytes of a GPU's memory that each session's arena may take; weights are not counted. 0: no limit.",
    },
    Setting {
        key: "onnxruntime.cuda_run",
        default: "\"graphs\"",
        help: "How a GPU runs a batch. graphs: as a recorded CUDA graph, where the model allows it, else bound.\n\
               bound: with buffers kept for each batch size. plain: with neither.",
    },
    Setting {
        key: "batching.lanes",
        default: "0",
        help: "Sessions of each model version, each with a thread of its own. 0: one for each core; on a GPU two, so\n\
               that one copies while the other computes.",
    },
    Setting {
        key: "batching.max_batch_rows",
        default: "0",
        help: "Largest batch, in rows (candidates); up to 65536. 0: on a CPU 64, and 128 once there is as much for every\n\
               lane; on a GPU 4096.",
    },
    Setting {
        key: "batching.queue_rows",
        default: "16384",
        help: "Rows that may wait for each model version. Beyond it requests are refused at once.",
    },
    Setting {
        key: "batching.inline_limit",
        default: "\"200us\"",
        help: "A request that finds an idle lane, with no other near, and takes no longer than this by prediction\n\
               runs on the thread that received it: no other thread has to wake. \"0s\": never, as always on a GPU.",
    },
    Setting {
        key: "executor.threads",
        default: "0",
        help: "Threads for forecasts and budgets, of low priority beside the models' own. 0: one for two cores.",
    },
    Setting {
        key: "executor.queue_rows",
        default: "1000000",
        help: "Rows (dates, campaigns) of such work that may wait. Beyond it requests are refused at once.",
    },
    Setting {
        key: "executor.cache_bytes",
        default: "67108864",
        help: "Bytes of forecasts that are kept in memory, to answer equal requests. 0: none.",
    },
    Setting {
        key: "clickhouse.url",
        default: "\"\"",
        help: "Base URL of ClickHouse's HTTP interface, such as \"http://clickhouse:8123\": `aibuyer-server migrate` makes\n\
               its tables, stored features of models come from them, the prediction log goes there, and AnalyticsService asks them.\n\
               Empty: features come with requests.",
    },
    Setting {
        key: "clickhouse.database",
        default: "\"aibuyer\"",
        help: "Database that holds the tables; made if it is not there. Never \"default\".",
    },
    Setting { key: "clickhouse.username", default: "\"\"", help: "User. Empty: ClickHouse's own default user." },
    Setting {
        key: "clickhouse.password_file",
        default: "\"\"",
        help: "File that holds the password of clickhouse.username.",
    },
    Setting {
        key: "clickhouse.migrate_timeout",
        default: "\"1m\"",
        help: "How long one statement of `aibuyer-server migrate` may take.",
    },
    Setting {
        key: "features.soft_age",
        default: "\"1m\"",
        help: "How long after it was fetched a row of features is fetched again, while the old one still answers.",
    },
    Setting {
        key: "features.hard_age",
        default: "\"1h\"",
        help: "How long after it was fetched a row still answers where ClickHouse does not. Models and requests bound the\n\
               age of what was computed; this bounds how long it may be kept.",
    },
    Setting {
        key: "features.absent_age",
        default: "\"30s\"",
        help: "How long it is remembered that an entity has no row.",
    },
    Setting {
        key: "features.cache_bytes",
        default: "268435456",
        help: "Bytes of rows that are kept in memory, about, for each feature view.",
    },
    Setting {
        key: "features.mirror",
        default: "[]",
        help: "Feature views that are kept whole in memory, such as [\"campaign\"]: no request waits for ClickHouse.",
    },
    Setting { key: "features.mirror_interval", default: "\"1m\"", help: "How often such views are fetched." },
    Setting {
        key: "features.query_timeout",
        default: "\"2s\"",
        help: "How long one query of features may take; of a mirrored view, features.mirror_interval.",
    },
    Setting {
        key: "features.max_wait",
        default: "\"20ms\"",
        help: "How long a request waits for rows that are not in memory, within its deadline; then defaults stand in,\n\
               and the rows are there for the next request.",
    },
    Setting {
        key: "prediction_log.sample_rate",
        default: "0.0",
        help: "Share of the requests for click-through rates whose predictions are written to ClickHouse's table\n\
               prediction_log, after the reply: 0 none, 1 all.",
    },
    Setting {
        key: "prediction_log.buffer_rows",
        default: "100000",
        help: "Rows (candidates) of the log that may wait in memory; at least limits.max_candidates. Beyond it they are\n\
               dropped, and counted.",
    },
    Setting {
        key: "prediction_log.spill_bytes",
        default: "1073741824",
        help: "Bytes of the log that may wait in storage.path/prediction-log while ClickHouse takes none, over restarts of\n\
               the engine, too. 0: none.",
    },
    Setting {
        key: "prediction_log.payload",
        default: "false",
        help: "Whether the features of each candidate are logged too: numbers as they are, text hashed, unless the feature\n\
               spec says otherwise.",
    },
    Setting {
        key: "limits.max_candidates",
        default: "10000",
        help: "Candidates in one request; at most batching.queue_rows.",
    },
    Setting { key: "limits.max_message_bytes", default: "16777216", help: "Size of a request message, in bytes." },
    Setting {
        key: "limits.default_deadline",
        default: "\"10s\"",
        help: "Deadline of a request that brings none, and the longest that any may bring.",
    },
    Setting { key: "log.level", default: "\"info\"", help: "error, warn, info, debug or trace." },
    Setting { key: "log.format", default: "\"text\"", help: "text for people, json for machines." },
];
