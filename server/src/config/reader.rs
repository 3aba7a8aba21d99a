//! Reading settings one by one, each as the type that it needs.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use toml::Value;

use super::{ConfigError, Raw};

/// Reads settings, with errors that name the setting, where it was set, and what it needs.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Raw,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Result<&Value, ConfigError> {
        // Only a key that is missing from the table of settings has no value: a bug, but not worth a panic.
        self.raw.get(key).map(|(value, _)| value).ok_or_else(|| self.fail(key, "has no default"))
    }

    pub(super) fn fail(&self, key: &str, needs: &str) -> ConfigError {
        let (value, origin) = match self.raw.get(key) {
            Some((value, origin)) => (value.to_string(), origin.to_string()),
            None => (String::new(), String::new()),
        };
        ConfigError::Value { key: key.to_owned(), value, origin, needs: needs.to_owned() }
    }

    pub(super) fn text(&self, key: &str) -> Result<String, ConfigError> {
        match self.value(key)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.fail(key, "needs a string")),
        }
    }

    pub(super) fn one_of(&self, key: &str, choices: &[&str]) -> Result<String, ConfigError> {
        let text = self.text(key)?;
        if choices.contains(&text.as_str()) {
            Ok(text)
        } else {
            Err(self.fail(key, &format!("needs one of {}", choices.join(", "))))
        }
    }

    pub(super) fn integer(&self, key: &str, least: usize, most: usize) -> Result<usize, ConfigError> {
        let number = match self.value(key)? {
            Value::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
            let upto = if most == usize::MAX { "up".to_owned() } else { format!("to {most}") };
            self.fail(key, &format!("needs a whole number from {least} {upto}"))
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.value(key)? {
            Value::Boolean(flag) => Ok(*flag),
            _ => Err(self.fail(key, "needs true or false")),
        }
    }

    /// 0 or greater.
    pub(super) fn number(&self, key: &str) -> Result<f64, ConfigError> {
        let number = match self.value(key)? {
            Value::Float(number) => Some(*number),
            #[allow(clippy::cast_precision_loss)] // no such setting is so large
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        };
        let good = number.filter(|n| n.is_finite() && *n >= 0.0);
        good.ok_or_else(|| self.fail(key, "needs a number, 0 or greater"))
    }

    /// An array of strings; or one string with commas, as flags and the environment have it.
    pub(super) fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>, ConfigError>
    where
        T::Err: fmt::Display,
    {
        let needs = "needs strings, such as [\"a\", \"b\"] or a,b";
        let texts: Vec<&str> = match self.value(key)? {
            Value::String(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
            Value::Array(values) => {
                let texts = values.iter().map(|v| v.as_str().ok_or_else(|| self.fail(key, needs)));
                texts.collect::<Result<_, _>>()?
            }
            _ => return Err(self.fail(key, needs)),
        };
        texts.into_iter().map(|text| text.parse().map_err(|e: T::Err| self.fail(key, &e.to_string()))).collect()
    }

    /// A path; `None` where it is empty.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.text(key)?;
        Ok((!text.is_empty()).then(|| text.into()))
    }

    pub(super) fn duration(&self, key: &str, least: Duration) -> Result<Duration, ConfigError> {
        let needs = "needs a duration such as \"250ms\", \"10s\" or \"5m\"";
        let duration = match self.value(key)? {
            Value::String(text) => humantime::parse_duration(text).map_err(|_| self.fail(key, needs))?,
            _ => return Err(self.fail(key, needs)),
        };
        if duration < least {
            return Err(self.fail(key, &format!("needs at least {}", humantime::format_duration(least))));
        }
        Ok(duration)
    }

    pub(super) fn address(&self, key: &str) -> Result<SocketAddr, ConfigError> {
        let parsed = self.text(key)?.parse();
        parsed.map_err(|_| self.fail(key, "needs an IP address and port such as \"127.0.0.1:8500\" or \"[::]:8500\""))
    }
}
