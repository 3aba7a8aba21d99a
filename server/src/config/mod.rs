//! Configuration: every setting has a default, can stand in a TOML file, the environment or a flag, and is
//! checked before anything starts.
//!
//! [`Raw`] collects what was written; [`Config`] is what it means. Both are functions of what they are given:
//! nothing here reads files or the environment, and nothing here holds a secret.

mod clickhouse;
mod features;
mod prediction_log;
mod raw;
mod reader;
mod registry;
mod settings;
mod valid;

use std::fmt::Write as _;

pub use clickhouse::ClickHouseConfig;
pub use features::FeaturesConfig;
pub use prediction_log::PredictionLogConfig;
pub use raw::{Origin, Raw, Sources};
pub use registry::{MlflowConfig, RegistryConfig, SourceConfig};
pub use settings::{SETTINGS, Setting};
pub use valid::Config;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is not TOML.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no setting `{key}`{}; `aibuyer-server config` lists them all", hint(origin, *.nearest))]
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        origin: Origin,
        /// The most similar key that exists, if any is similar.
        nearest: Option<&'static str>,
    },
    /// A value that does not fit its setting.
    #[error("{key} = {value} (from {origin}): {needs}")]
    Value {
        /// The setting.
        key: String,
        /// As written.
        value: String,
        /// Where.
        origin: String,
        /// What it needs.
        needs: String,
    },
    /// A `--set` without `=`.
    #[error("--set {0}: write --set section.name=value")]
    Flag(String),
}

/// What was probably meant, as it must be written there.
fn hint(origin: &Origin, nearest: Option<&str>) -> String {
    match (nearest, origin) {
        (None, _) => String::new(),
        (Some(key), Origin::Environment(_)) => {
            format!("; did you mean {}?", format!("AIBUYER_{}", key.replace('.', "__")).to_ascii_uppercase())
        }
        (Some(key), _) => format!("; did you mean `{key}`?"),
    }
}

/// The effective configuration as commented TOML: what a configuration file that changes nothing looks like.
#[must_use]
pub fn render(raw: &Raw) -> String {
    let mut text = String::from(
        "# Effective configuration. Each setting can also be set by the environment variable\n\
         # AIBUYER_<SECTION>__<NAME> or by --set <section>.<name>=<value>; later ones win.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (head, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if head != section {
            let _ = write!(text, "\n[{head}]\n");
            section = head;
        }
        for line in setting.help.lines() {
            let _ = writeln!(text, "# {}", line.trim_start());
        }
        if let Some((value, origin)) = raw.get(setting.key) {
            if *origin != Origin::Default {
                let _ = writeln!(text, "# From {origin}; the default is {}.", setting.default);
            }
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use aibuyer_loader::device::{CudaRun, DeviceChoice};
    use aibuyer_registry::Models;

    use super::*;

    fn config(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
        let sources = Sources {
            file: Some(("aibuyer.toml", file)),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
        };
        Config::new(&Raw::read(&sources)?, 4)
    }

    #[test]
    fn defaults_are_valid() {
        let config = config("", &[], &[]).unwrap();
        assert_eq!((config.cores, config.lanes, config.max_candidates), (4, 0, 10_000));
        assert_eq!((config.device.choice, config.device.run), (DeviceChoice::Auto, CudaRun::Graphs));
        assert_eq!(config.onnxruntime_library, None);
    }

    #[test]
    fn later_sources_win() {
        let file = "[batching]\nlanes = 1\nmax_batch_rows = 8\nqueue_rows = 20000\n";
        let environment =
            [("AIBUYER_BATCHING__LANES", "2"), ("AIBUYER_REGISTRY__PATH", "/srv/models"), ("PATH", "/bin")];
        let config = config(file, &environment, &["batching.lanes=3", "limits.default_deadline=50ms"]).unwrap();
        assert_eq!((config.lanes, config.max_batch_rows, config.queue_rows), (3, 8, 20_000));
        assert_eq!(config.registry.source, SourceConfig::Directory("/srv/models".into()));
        assert_eq!(config.default_deadline, Duration::from_millis(50));
    }

    #[test]
    fn unknown_keys_fail_with_the_nearest_known_one() {
        let nearest = |error: ConfigError| match error {
            ConfigError::UnknownKey { nearest, .. } => nearest.unwrap_or("nothing"),
            other => panic!("{other}"),
        };
        assert_eq!(nearest(config("[batching]\nlane = 1", &[], &[]).unwrap_err()), "batching.lanes");
        assert_eq!(nearest(config("lanes = 1", &[], &[]).unwrap_err()), "batching.lanes");
        assert_eq!(nearest(config("[batch]\nqueue_rows = 1", &[], &[]).unwrap_err()), "batching.queue_rows");
        let environment = [("AIBUYER_SERVER__GRPC_LISTN", "x")];
        assert_eq!(nearest(config("", &environment, &[]).unwrap_err()), "server.grpc_listen");
        assert_eq!(nearest(config("", &[], &["log.lvl=debug"]).unwrap_err()), "log.level");
        assert_eq!(nearest(config("", &[], &["server.grpc=x"]).unwrap_err()), "server.grpc_listen");
        assert_eq!(nearest(config("", &[], &["foo.bar=x"]).unwrap_err()), "nothing");
    }

    #[test]
    fn variables_that_kubernetes_makes_for_a_service_are_not_settings() {
        let links = [
            "AIBUYER_SERVICE_HOST",
            "AIBUYER_SERVICE_PORT",
            "AIBUYER_SERVICE_PORT_GRPC",
            "AIBUYER_PORT",
            "AIBUYER_PORT_8500_TCP",
            "AIBUYER_PORT_8500_TCP_ADDR",
            "AIBUYER_EU_SERVICE_HOST",
            "AIBUYER_EU_PORT",
            "AIBUYER_EU_PORT_8500_TCP_PROTO",
        ];
        let environment: Vec<(&str, &str)> = links.iter().map(|name| (*name, "10.0.0.1")).collect();
        assert!(config("", &environment, &[]).is_ok());
        let error = config("", &[("AIBUYER_BATCHING_LANES", "4")], &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean AIBUYER_BATCHING__LANES?"), "{error}");
    }

    #[test]
    fn bad_values_name_the_setting_its_origin_and_what_it_needs() {
        for (key, value, needs) in [
            ("server.grpc_listen", "localhost", "IP address and port"),
            ("batching.lanes", "-1", "whole number from 0 to 256"),
            ("batching.lanes", "many", "whole number"),
            ("limits.max_candidates", "16385", "at most batching.queue_rows, which is 16384"),
            ("registry.poll_interval", "5ms", "at least 100ms"),
            ("limits.default_deadline", "10", "duration such as"),
            ("onnxruntime.device", "gpu", "such as \"cuda:0\""),
            ("onnxruntime.device", "0", "a string"),
            ("onnxruntime.device_memory", "-1", "whole number from 0 up"),
            ("onnxruntime.cuda_run", "fast", "one of graphs, bound, plain"),
            ("log.level", "loud", "one of error, warn"),
            ("registry.path", "3", "a string"),
            ("registry.default_alias", "v1", "is reserved"),
            ("registry.models", "3", "needs strings"),
            ("registry.require_manifest", "1", "true or false"),
            ("loading.max_slowdown", "-1", "0 or greater"),
        ] {
            let mlflow = if key.starts_with("registry.") && key != "registry.path" && key != "registry.poll_interval" {
                &["registry.mlflow_url=http://mlflow", "registry.models=m"][..]
            } else {
                &[]
            };
            let set = format!("{key}={value}");
            let flags: Vec<&str> = mlflow.iter().copied().chain([set.as_str()]).collect();
            let message = config("", &[], &flags).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(needs) && message.contains("--set"), "{message}");
        }
        let error = config("[server\n", &[], &[]).unwrap_err().to_string();
        assert!(error.starts_with("aibuyer.toml"), "{error}");
    }

    #[test]
    fn an_mlflow_server_needs_models_and_whole_credentials() {
        let mlflow = |flags: &[&str]| {
            let flags: Vec<&str> = ["registry.mlflow_url=http://mlflow:5000"].iter().chain(flags).copied().collect();
            config("", &[], &flags).map(|c| c.registry)
        };
        let named = mlflow(&["registry.models=a, b", "registry.aliases=[\"champion\", \"next\"]"]).unwrap();
        assert_eq!(named.poll_interval, Duration::from_secs(10));
        let SourceConfig::Mlflow(server) = named.source else { panic!("{named:?}") };
        assert_eq!(server.models, Models::Named(vec!["a".parse().unwrap(), "b".parse().unwrap()]));
        assert_eq!(server.aliases.len(), 2);
        assert!(mlflow(&["registry.filter=tags.serve = 'true'"]).is_ok());
        for (flags, needs) in [
            (&[][..], "or registry.filter"),
            (&["registry.models=a", "registry.filter=x"], "choose one"),
            (&["registry.models=a", "registry.username=u"], "set both or neither"),
            (&["registry.models=it's"], "has a quote"),
            (&["registry.models=a", "registry.poll_interval=500ms"], "at least 1s"),
        ] {
            let message = mlflow(flags).unwrap_err().to_string();
            assert!(message.contains(needs), "{message}");
        }
        let message = config("", &[], &["registry.mlflow_url=mlflow:5000"]).unwrap_err().to_string();
        assert!(message.contains("needs a URL"), "{message}");
    }

    #[test]
    fn clickhouse_needs_a_url_and_a_database_of_its_own() {
        assert_eq!(config("", &[], &[]).unwrap().clickhouse, None);
        let clickhouse = |set: &str| config("", &[], &["clickhouse.url=http://c:8123", set]).map(|c| c.clickhouse);
        let known = clickhouse("clickhouse.database=ads").unwrap().unwrap();
        assert_eq!((known.database.as_str(), known.migrate_timeout), ("ads", Duration::from_secs(60)));
        for (set, needs) in [
            ("clickhouse.url=c:8123", "needs a URL"),
            ("clickhouse.database=default", "database of its own"),
            ("clickhouse.database=", "database of its own"),
            ("clickhouse.username=u", "set both or neither"),
            ("clickhouse.migrate_timeout=0s", "at least 1s"),
            ("clickhouse.databse=x", "did you mean `clickhouse.database`?"),
        ] {
            let message = clickhouse(set).unwrap_err().to_string();
            assert!(message.contains(needs), "{message}");
        }
    }

    #[test]
    fn the_prediction_log_is_off_unless_asked_for_and_needs_clickhouse() {
        let log = |flags: &[&str]| config("", &[], flags).map(|c| c.prediction_log);
        let clickhouse = "clickhouse.url=http://c:8123";
        assert_eq!(log(&[clickhouse]).unwrap(), None);
        let asked = log(&[clickhouse, "prediction_log.sample_rate=0.25"]).unwrap().unwrap();
        let wanted =
            PredictionLogConfig { sample_rate: 0.25, buffer_rows: 100_000, spill_bytes: 1 << 30, payload: false };
        assert_eq!(asked, wanted);
        for (set, needs) in [
            ("prediction_log.sample_rate=1", "needs clickhouse.url"),
            ("prediction_log.sample_rate=1.5", "from 0 to 1"),
            ("prediction_log.sample_rate=all", "needs a number"),
            ("prediction_log.buffer_rows=9999", "at least limits.max_candidates, which is 10000"),
            ("prediction_log.spill_bytes=-1", "whole number from 0 up"),
            ("prediction_log.payload=1", "true or false"),
            ("prediction_log.sample=1", "did you mean `prediction_log.sample_rate`?"),
        ] {
            let message = log(&[set]).unwrap_err().to_string();
            assert!(message.contains("prediction_log.") && message.contains(needs), "{message}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_configuration() {
        let sources = Sources { flags: vec!["batching.lanes=3".to_owned()], ..Sources::default() };
        let raw = Raw::read(&sources).unwrap();
        let text = render(&raw);
        assert!(text.contains("# From --set; the default is 0.\nlanes = 3"), "{text}");
        let again = Raw::read(&Sources { file: Some(("printed", &text)), ..Sources::default() }).unwrap();
        assert_eq!(Config::new(&again, 1).unwrap(), Config::new(&raw, 1).unwrap());
    }
}
