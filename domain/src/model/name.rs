//! Names of models, versions and aliases.

use std::{fmt, num::NonZeroU64, str::FromStr, sync::Arc};

/// A name or number that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {reason}")]
pub struct NameError {
    what: &'static str,
    value: String,
    reason: &'static str,
}

impl NameError {
    fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        Self { what, value: value.to_owned(), reason }
    }
}

/// A registered model's name: 1 to 256 bytes, usable as one path component and free of `:`, which MLflow
/// reserves for `models:/` addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Equal, ordered and hashed as its text, so maps can be searched by text.
impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let fail = |reason| Err(NameError::new("model name", name, reason));
        if name.is_empty() || name.len() > 256 {
            return fail("must be 1 to 256 bytes long");
        }
        if name.starts_with('.') {
            return fail("must not start with a dot");
        }
        if name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | ':')) {
            return fail("must not contain '/', '\\', ':' or control characters");
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model version's number, 1 or greater, as MLflow counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(NonZeroU64);

impl Version {
    /// The version numbered `number`; `None` for 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The version's number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for Version {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(number) if canonical => Ok(Self(number)),
            _ => Err(NameError::new("version", text, "must be a whole number, 1 or greater, without leading zeros")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A registry's name for a version in use, under MLflow's rules: letters, digits, `_`, `-` and `.`; neither
/// `latest` nor `v` with a number, which MLflow reserves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Arc<str>);

impl Alias {
    /// The alias whose version answers when a request names none.
    #[must_use]
    pub fn champion() -> Self {
        Self("champion".into())
    }

    /// The alias as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = NameError;

    fn from_str(alias: &str) -> Result<Self, NameError> {
        let fail = |reason| Err(NameError::new("alias", alias, reason));
        if alias.is_empty() || alias.len() > 256 {
            return fail("must be 1 to 256 bytes long");
        }
        if !alias.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
            return fail("may contain only ASCII letters, digits, '_', '-' and '.'");
        }
        let version_like = alias
            .strip_prefix(['v', 'V'])
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        if alias.eq_ignore_ascii_case("latest") || version_like {
            return fail("is reserved: choose a name other than 'latest' or 'v' with a number");
        }
        Ok(Self(alias.into()))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of one model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServableId {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: Version,
}

impl fmt::Display for ServableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// Which version of a model a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// Whichever the registry makes the default.
    Default,
    /// The version behind an alias.
    Alias(Alias),
    /// Exactly this version.
    Version(Version),
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default version"),
            Self::Alias(alias) => write!(f, "alias {alias}"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_one_safe_path_component() {
        for good in ["ctr-upworthy", "ads ctr", "a", "größe"] {
            assert_eq!(good.parse::<ModelName>().expect(good).as_str(), good);
        }
        let long = "x".repeat(257);
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "models:x", "a\nb", long.as_str()] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_canonical_positive_numbers() {
        assert_eq!("17".parse::<Version>().expect("17").get(), 17);
        for bad in ["", "0", "01", "-1", "+1", "1.0", "v1", " 1", "18446744073709551616"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn aliases_follow_mlflow() {
        for good in ["champion", "challenger_2", "eu.west-1", "version1", "v", "vx1"] {
            assert!(good.parse::<Alias>().is_ok(), "{good:?}");
        }
        for bad in ["", "latest", "Latest", "v1", "V12", "a b", "a/b", "größe"] {
            assert!(bad.parse::<Alias>().is_err(), "{bad:?}");
        }
    }
}
