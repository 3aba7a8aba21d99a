//! Settings as they were written, before anybody asks whether they make sense.
//!
//! Later sources win: default, file, environment (`AIBUYER_SECTION__NAME`), `--set section.name=value`. A key
//! that no [`Setting`](super::Setting) has fails, wherever it stands: a setting that is ignored in silence is
//! an outage in waiting.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

use super::{ConfigError, SETTINGS};

/// Prefix of environment variables that are settings.
const PREFIX: &str = "AIBUYER_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(String),
    /// An environment variable.
    Environment(String),
    /// `--set`.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// Values by key, each with its origin. Holds every setting.
#[derive(Debug, Clone)]
pub struct Raw {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

/// What settings are made from; nothing else is looked at.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// Path and content of the configuration file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// `--set` arguments, `section.name=value`.
    pub flags: Vec<String>,
}

impl Raw {
    /// Reads all sources.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that is not TOML and for unknown keys, with the nearest known one.
    pub fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut raw = Self { values: BTreeMap::new() };
        for setting in SETTINGS {
            raw.put(setting.key, parse(setting.default), Origin::Default)?;
        }
        if let Some((path, text)) = sources.file {
            let table: Table = text
                .parse()
                .map_err(|e: toml::de::Error| ConfigError::File { path: path.to_owned(), reason: e.to_string() })?;
            let origin = Origin::File(path.to_owned());
            for (section, value) in table {
                match value {
                    Value::Table(settings) => {
                        for (name, value) in settings {
                            raw.put(&format!("{section}.{name}"), value, origin.clone())?;
                        }
                    }
                    value => raw.put(&section, value, origin.clone())?,
                }
            }
        }
        for (name, text) in &sources.environment {
            if let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !is_service_link(rest)) {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                raw.put(&key, parse(text), Origin::Environment(name.clone()))?;
            }
        }
        for flag in &sources.flags {
            let Some((key, text)) = flag.split_once('=') else {
                return Err(ConfigError::Flag(flag.clone()));
            };
            raw.put(key.trim(), parse(text), Origin::Flag)?;
        }
        Ok(raw)
    }

    /// The value of a setting and where it came from. Every key of [`SETTINGS`] has one.
    pub(super) fn get(&self, key: &str) -> Option<&(Value, Origin)> {
        self.values.get(key)
    }

    fn put(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), origin, nearest: nearest(key) });
        };
        self.values.insert(setting.key, (value, origin));
        Ok(())
    }
}

/// Whether Kubernetes made this variable for a Service named `aibuyer` or `aibuyer-...`: `SERVICE_HOST`,
/// `X_SERVICE_PORT_GRPC`, `PORT`, `PORT_8500_TCP_ADDR` and their like. No setting looks so: each has a `__`.
fn is_service_link(rest: &str) -> bool {
    let numbered_port =
        |rest: &str| rest.split("PORT_").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    !rest.contains("__")
        && (rest.ends_with("SERVICE_HOST")
            || rest.contains("SERVICE_PORT")
            || rest == "PORT"
            || rest.ends_with("_PORT")
            || numbered_port(rest))
}

/// Text from the environment or a flag: TOML where it is TOML, else a plain string, so that quotes are not
/// needed in a shell.
fn parse(text: &str) -> Value {
    let table: Result<Table, _> = format!("value = {text}").parse();
    match table.ok().and_then(|mut t| t.remove("value")) {
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}

/// The known key that is most like `key`; `None` where nothing is like it.
fn nearest(key: &str) -> Option<&'static str> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &&str| {
        let whole = strsim::damerau_levenshtein(known, key);
        // A right name in the wrong section, or without one, is near too; so is the beginning of a name.
        let by_name = strsim::damerau_levenshtein(&name(known), &name(key)) + 1;
        if known.starts_with(key) { 1 } else { whole.min(by_name) }
    };
    let best = SETTINGS.iter().map(|s| s.key).min_by_key(distance)?;
    (distance(&best) <= key.len() / 2).then_some(best)
}
