//! Points in time without a zone, as Prophet keeps them.

use std::fmt;

/// Microseconds in a day.
pub(super) const DAY: i64 = 86_400_000_000;

/// A naive UTC point in time: microseconds since 1970-01-01T00:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Text that is no naive UTC timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// A zone or an offset: Prophet's dates have none.
    #[error("`{0}` has a time zone: give UTC without zone, as in 2024-05-01T13:00:00")]
    Zone(String),
    /// Not ISO 8601.
    #[error("`{0}` is not a date or time: write 2024-05-01 or 2024-05-01T13:00:00")]
    Syntax(String),
}

impl Timestamp {
    /// From microseconds since 1970-01-01T00:00.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From nanoseconds since 1970-01-01T00:00, rounded down to a microsecond.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos.div_euclid(1_000))
    }

    /// Microseconds since 1970-01-01T00:00.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Reads `2024-05-01`, `2024-05-01T13:00`, `2024-05-01 13:00:00.5` and the like, without zone.
    ///
    /// # Errors
    /// [`TimeError`] for a zone (`Z`, `+02:00`) and for anything else.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let (time, zoned) = split_zone(text.trim());
        if zoned {
            return Err(TimeError::Zone(text.to_owned()));
        }
        read(time).ok_or_else(|| TimeError::Syntax(text.to_owned()))
    }

    /// As [`Self::parse`], but `Z` may follow: pandas used to write it after naive times.
    pub(super) fn parse_utc(text: &str) -> Result<Self, TimeError> {
        Self::parse(text.strip_suffix('Z').unwrap_or(text))
    }

    /// Whole days since 1970-01-01.
    pub(super) fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// Time of the day in microseconds.
    pub(super) fn time_of_day(self) -> i64 {
        self.0.rem_euclid(DAY)
    }

    /// Days since 1970-01-01 with fraction, computed as Prophet does.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn days(self) -> f64 {
        (self.0 as f64 / 1e6) / 86_400.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.day());
        let micros = self.time_of_day();
        let seconds = micros / 1_000_000;
        write!(f, "{year:04}-{month:02}-{day:02}T")?;
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        match micros % 1_000_000 {
            0 => Ok(()),
            rest => write!(f, ".{rest:06}"),
        }
    }
}

fn split_zone(text: &str) -> (&str, bool) {
    let clock = text.get(10..).unwrap_or("");
    let zone = clock.find(['Z', 'z', '+', '-']).or_else(|| clock.find(" UTC"));
    zone.map_or((text, false), |at| (&text[..10 + at], true))
}

fn read(text: &str) -> Option<Timestamp> {
    let (date, clock) = match text.get(10..) {
        Some("") => (text, None),
        Some(rest) => (text.get(..10)?, Some(rest.strip_prefix(['T', ' '])?)),
        None => return None,
    };
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let micros = clock.map_or(Some(0), clock_micros)?;
    Some(Timestamp(days_from_civil(year, month, day) * DAY + micros))
}

fn clock_micros(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or((fraction.is_none()).then_some(0), |text| digits(text, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = fraction.map_or(Some(0), |text| {
        let known = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        known.then(|| format!("{text:0<6}")).and_then(|text| text[..6].parse().ok())
    })?;
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days of a month of the Gregorian calendar.
pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date (H. Hinnant, "chrono-compatible low-level date algorithms").
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01; the inverse of [`days_from_civil`].
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_read_and_written() {
        for (text, micros) in [
            ("1970-01-01", 0),
            ("2024-02-29T13:05:09", 1_709_211_909_000_000),
            ("2024-02-29 13:05:09.25", 1_709_211_909_250_000),
            ("1969-12-31T23:59", -60_000_000),
            ("2024-01-01T00:00:00.000000001", 1_704_067_200_000_000),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().micros(), micros, "{text}");
        }
        assert_eq!(Timestamp::parse("2024-02-29 13:05:09.25").unwrap().to_string(), "2024-02-29T13:05:09.250000");
        assert_eq!(Timestamp::from_nanos(-1).micros(), -1);
    }

    #[test]
    fn zones_and_nonsense_are_refused() {
        for text in ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00-05:00"] {
            assert!(matches!(Timestamp::parse(text), Err(TimeError::Zone(_))), "{text}");
        }
        for text in
            ["", "2024", "2024-13-01", "2023-02-29", "2024-01-01T24:00", "2024-01-01Tx", "01.02.2024", "é024-01-01"]
        {
            assert!(matches!(Timestamp::parse(text), Err(TimeError::Syntax(_))), "{text}");
        }
        assert!(Timestamp::parse_utc("2024-01-01T00:00:00.000Z").is_ok());
    }

    #[test]
    fn civil_dates_go_both_ways() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil(19_782), (2024, 2, 29));
    }
}
