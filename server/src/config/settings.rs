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
pub const SETTINGS: [Setting; 19] = [
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
        help: "Address of the status page, /metrics, /healthz/live and /healthz/ready.",
    },
    Setting {
        key: "server.shutdown_grace",
        default: "\"20s\"",
        help: "On SIGTERM, how long requests under way may still take.",
    },
    Setting {
        key: "registry.path",
        default: "\"models\"",
        help: "Folder of models: <name>/<version>/, with an optional <name>/aliases.yaml.",
    },
    Setting {
        key: "registry.poll_interval",
        default: "\"1s\"",
        help: "How often the folder is looked at; 100ms or more.",
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
        help: "Largest batch, in rows (candidates); up to 65536. 0: 64, beyond which a CPU gains little; on a GPU 4096.",
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
