//! Keys of entities whose features a feature store has.

use std::str::FromStr;

/// Entities that requests are about.
#[derive(Debug, Clone)]
pub struct Entities {
    /// Of each kind.
    pub count: u32,
    /// How their keys are written.
    pub format: KeyFormat,
    /// Whether requests carry stored features themselves instead of the keys that they are stored under.
    pub carried: bool,
}

impl Default for Entities {
    fn default() -> Self {
        Self { count: 10_000, format: KeyFormat::default(), carried: false }
    }
}

/// A text in which `{entity}` stands for the kind of entity and `{n}` for its number, from 0 on; `{n:06}` for the
/// number in at least six digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFormat {
    before: String,
    digits: usize,
    after: String,
}

const ENTITY: &str = "{entity}";
/// Digits of a number, at most.
const MOST_DIGITS: usize = 20;

impl Default for KeyFormat {
    fn default() -> Self {
        Self { before: format!("{ENTITY}_"), digits: 0, after: String::new() }
    }
}

impl KeyFormat {
    /// The key of the `n`th entity of a kind.
    pub(super) fn key(&self, kind: &str, n: u32) -> String {
        let Self { before, digits, after } = self;
        format!("{}{n:0digits$}{}", before.replace(ENTITY, kind), after.replace(ENTITY, kind))
    }
}

impl FromStr for KeyFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (before, rest) = text.split_once("{n")?;
            let (digits, after) = rest.split_once('}')?;
            let digits = if digits.is_empty() { Some(0) } else { digits.strip_prefix(":0")?.parse().ok() };
            let digits = digits.filter(|d| *d <= MOST_DIGITS)?;
            Some(Self { before: before.to_owned(), digits, after: after.to_owned() })
        };
        parse().ok_or_else(|| "needs the number's place; write it such as {entity}_{n} or campaign_{n:06}".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_written() {
        let key = |format: &str| format.parse::<KeyFormat>().map(|f| f.key("campaign", 42));
        assert_eq!(KeyFormat::default().key("campaign", 42), "campaign_42");
        assert_eq!(key("{entity}_{n}").unwrap(), "campaign_42");
        assert_eq!(key("{entity}_{n:06}").unwrap(), "campaign_000042");
        assert_eq!(key("a{n}/{entity}").unwrap(), "a42/campaign");
        for bad in ["campaign", "{entity}", "{n", "{n:6}", "{n:0x}", "{n:021}"] {
            assert!(key(bad).unwrap_err().contains("{entity}_{n}"), "{bad}");
        }
    }
}
