//! Dates of a future frame from a start, a frequency and a horizon: `pandas.date_range`.

use super::time::{DAY, Timestamp, civil, days_from_civil, days_in_month};

/// Rows of a generated frame, at most.
pub const MAX_HORIZON: usize = 100_000;

/// A step between dates, by pandas' names: `D`, `h`, `min`, `s`, `W`, `W-MON`, `B`, `MS`, `ME`, `QS`, `QE`,
/// `YS`, `YE`, quarters and years with a month (`QS-FEB`, `YE-JUN`), each with an optional count (`15min`, `2W`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequency {
    count: i64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A fixed number of microseconds.
    Fixed(i64),
    BusinessDay,
    /// The weekday on which it falls, Monday 0.
    Week(i64),
    /// Every so many months, on the first or the last day; `anchor` is a month in which it falls, 0 to 11.
    Months {
        every: i64,
        anchor: i64,
        end: bool,
    },
}

/// A frequency or a horizon that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrequencyError {
    /// Not one of the names.
    #[error("frequency `{0}` is unknown: use s, min, h, D, B, W, MS, ME, QS, QE, YS or YE, with a count as in 15min")]
    Unknown(String),
    /// No rows, or too many.
    #[error("horizon {0} must be 1 to {MAX_HORIZON}")]
    Horizon(usize),
    /// The dates would leave the calendar.
    #[error("horizon {0} leads beyond the year 9999")]
    Beyond(usize),
}

const WEEKDAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

impl Frequency {
    /// Reads pandas' name of a frequency, old spellings (`H`, `T`, `M`, `Q`, `A`) included.
    ///
    /// # Errors
    /// [`FrequencyError::Unknown`].
    pub fn parse(text: &str) -> Result<Self, FrequencyError> {
        let unknown = || FrequencyError::Unknown(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(unknown)?;
        let count = if split == 0 { 1 } else { text[..split].parse().map_err(|_| unknown())? };
        if !(1..=1_000_000).contains(&count) {
            return Err(unknown());
        }
        let (name, anchor) = match text[split..].split_once('-') {
            Some((name, anchor)) => (name, Some(anchor)),
            None => (&text[split..], None),
        };
        let unit = unit(name, anchor).ok_or_else(unknown)?;
        Ok(Self { count, unit })
    }

    /// Whether both make the same steps, whatever they are called: `h` and `60min`.
    #[must_use]
    pub fn agrees(self, other: Self) -> bool {
        match (self.unit, other.unit) {
            (Unit::Fixed(one), Unit::Fixed(another)) => one * self.count == another * other.count,
            _ => self == other,
        }
    }

    /// Whether a date is one that the steps can lead to: any for `D` and shorter, a Sunday for `W`, the first of a
    /// month for `MS`.
    #[must_use]
    pub fn falls_on(self, date: Timestamp) -> bool {
        self.unit.roll_forward(date) == date
    }

    /// The date a step after one that the steps can lead to.
    #[must_use]
    pub fn next(self, date: Timestamp) -> Timestamp {
        self.unit.step(date, self.count)
    }

    /// `horizon` dates from `start` on; the first is `start` if it falls on the frequency, else the next that does.
    ///
    /// # Errors
    /// [`FrequencyError`] for a horizon of no or too many rows.
    pub fn dates_from(self, start: Timestamp, horizon: usize) -> Result<Vec<Timestamp>, FrequencyError> {
        if horizon == 0 || horizon > MAX_HORIZON {
            return Err(FrequencyError::Horizon(horizon));
        }
        let last_day = days_from_civil(9999, 12, 31);
        let mut date = self.unit.roll_forward(start);
        let mut dates = Vec::with_capacity(horizon);
        while dates.len() < horizon {
            if date.day() > last_day {
                return Err(FrequencyError::Beyond(horizon));
            }
            dates.push(date);
            date = self.unit.step(date, self.count);
        }
        Ok(dates)
    }

    /// `horizon` dates after `last`, as Prophet's `make_future_dataframe` makes them.
    ///
    /// # Errors
    /// [`FrequencyError`] for a horizon of no or too many rows.
    pub fn dates_after(self, last: Timestamp, horizon: usize) -> Result<Vec<Timestamp>, FrequencyError> {
        let first = self.unit.roll_forward(last);
        let first = if first > last { first } else { self.unit.step(first, self.count) };
        self.dates_from(first, horizon)
    }
}

fn unit(name: &str, anchor: Option<&str>) -> Option<Unit> {
    let fixed = match name {
        "D" | "d" => Some(DAY),
        "h" | "H" => Some(DAY / 24),
        "min" | "T" => Some(DAY / 1_440),
        "s" | "S" => Some(1_000_000),
        _ => None,
    };
    if let Some(micros) = fixed {
        return anchor.is_none().then_some(Unit::Fixed(micros));
    }
    match name {
        "B" => anchor.is_none().then_some(Unit::BusinessDay),
        "W" => position(&WEEKDAYS, anchor.unwrap_or("SUN")).map(Unit::Week),
        "MS" | "ME" | "M" if anchor.is_none() => Some(Unit::Months { every: 1, anchor: 0, end: name != "MS" }),
        "QS" => Some(Unit::Months { every: 3, anchor: position(&MONTHS, anchor.unwrap_or("JAN"))?, end: false }),
        "QE" | "Q" => Some(Unit::Months { every: 3, anchor: position(&MONTHS, anchor.unwrap_or("DEC"))?, end: true }),
        "YS" | "AS" => {
            Some(Unit::Months { every: 12, anchor: position(&MONTHS, anchor.unwrap_or("JAN"))?, end: false })
        }
        "YE" | "Y" | "A" => {
            Some(Unit::Months { every: 12, anchor: position(&MONTHS, anchor.unwrap_or("DEC"))?, end: true })
        }
        _ => None,
    }
}

fn position(names: &[&str], name: &str) -> Option<i64> {
    names.iter().position(|known| *known == name).and_then(|at| i64::try_from(at).ok())
}

/// Monday 0 to Sunday 6: 1970-01-01 was a Thursday.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

fn at(day: i64, like: Timestamp) -> Timestamp {
    // Far beyond the calendar dates stand still, and are refused there.
    Timestamp::from_micros(day.saturating_mul(DAY).saturating_add(like.time_of_day()))
}

impl Unit {
    fn roll_forward(self, date: Timestamp) -> Timestamp {
        let day = date.day();
        match self {
            Self::Fixed(_) => date,
            Self::BusinessDay => at(day + (7 - weekday(day)) * i64::from(weekday(day) > 4), date),
            Self::Week(anchor) => at(day + (anchor - weekday(day)).rem_euclid(7), date),
            Self::Months { every, anchor, end } => {
                let (year, month, _) = civil(day);
                let month = year * 12 + month - 1;
                let month = month + (anchor - month).rem_euclid(every);
                let here = month_day(month, end);
                at(if here < day { month_day(month + every, end) } else { here }, date)
            }
        }
    }

    fn step(self, date: Timestamp, count: i64) -> Timestamp {
        let day = date.day();
        match self {
            Self::Fixed(micros) => Timestamp::from_micros(date.micros().saturating_add(micros.saturating_mul(count))),
            Self::BusinessDay => {
                let weeks = (weekday(day) + count).div_euclid(5);
                at(day - weekday(day) + weeks * 7 + (weekday(day) + count).rem_euclid(5), date)
            }
            Self::Week(_) => at(day + 7 * count, date),
            Self::Months { every, end, .. } => {
                let (year, month, _) = civil(day);
                at(month_day(year * 12 + month - 1 + every * count, end), date)
            }
        }
    }
}

/// The first or last day of a month that is counted from year 0.
fn month_day(month: i64, end: bool) -> i64 {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    days_from_civil(year, month, if end { days_in_month(year, month) } else { 1 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn after(frequency: &str, last: &str) -> Vec<String> {
        let dates = Frequency::parse(frequency).unwrap().dates_after(Timestamp::parse(last).unwrap(), 3).unwrap();
        dates.iter().map(|date| date.to_string().trim_end_matches("T00:00:00").to_owned()).collect()
    }

    /// Made with `Prophet.make_future_dataframe` on pandas 3.1.
    #[test]
    fn future_dates_are_those_of_pandas() {
        for (frequency, last, dates) in [
            ("D", "2024-02-28", ["2024-02-29", "2024-03-01", "2024-03-02"]),
            ("6h", "2024-02-28T20:30:00", ["2024-02-29T02:30:00", "2024-02-29T08:30:00", "2024-02-29T14:30:00"]),
            ("15min", "2024-02-28T23:45:00", ["2024-02-29", "2024-02-29T00:15:00", "2024-02-29T00:30:00"]),
            ("B", "2024-03-01", ["2024-03-04", "2024-03-05", "2024-03-06"]),
            ("B", "2024-03-02", ["2024-03-04", "2024-03-05", "2024-03-06"]),
            ("4B", "2024-02-28", ["2024-03-05", "2024-03-11", "2024-03-15"]),
            ("W", "2024-02-28", ["2024-03-03", "2024-03-10", "2024-03-17"]),
            ("W-WED", "2024-02-28", ["2024-03-06", "2024-03-13", "2024-03-20"]),
            ("2W-MON", "2024-02-28", ["2024-03-04", "2024-03-18", "2024-04-01"]),
            ("MS", "2024-02-28", ["2024-03-01", "2024-04-01", "2024-05-01"]),
            ("MS", "2024-02-01", ["2024-03-01", "2024-04-01", "2024-05-01"]),
            ("ME", "2024-01-31", ["2024-02-29", "2024-03-31", "2024-04-30"]),
            ("2MS", "2024-02-10", ["2024-03-01", "2024-05-01", "2024-07-01"]),
            ("QS", "2024-02-10", ["2024-04-01", "2024-07-01", "2024-10-01"]),
            ("QE-JAN", "2024-02-10", ["2024-04-30", "2024-07-31", "2024-10-31"]),
            ("YS", "2024-02-10", ["2025-01-01", "2026-01-01", "2027-01-01"]),
            ("YE-FEB", "2024-02-10", ["2024-02-29", "2025-02-28", "2026-02-28"]),
        ] {
            assert_eq!(after(frequency, last), dates, "{frequency} after {last}");
        }
    }

    #[test]
    fn steps_are_compared_by_what_they_do() {
        let agree = |a: &str, b: &str| Frequency::parse(a).unwrap().agrees(Frequency::parse(b).unwrap());
        for (a, b) in [("h", "60min"), ("D", "24h"), ("W", "W-SUN"), ("2MS", "2MS"), ("H", "h")] {
            assert!(agree(a, b), "{a} {b}");
        }
        for (a, b) in [("h", "D"), ("W", "7D"), ("MS", "ME"), ("MS", "2MS"), ("W", "W-MON")] {
            assert!(!agree(a, b), "{a} {b}");
        }
        let falls = |f: &str, date: &str| Frequency::parse(f).unwrap().falls_on(Timestamp::parse(date).unwrap());
        assert!(falls("h", "2024-02-28T00:15:01") && falls("MS", "2024-03-01") && falls("W", "2024-03-03"));
        assert!(!falls("MS", "2024-03-02") && !falls("W", "2024-03-04") && !falls("B", "2024-03-03"));
    }

    #[test]
    fn steps_beyond_the_calendar_are_refused() {
        let end = Timestamp::from_micros(i64::MAX);
        for name in ["D", "B", "W-TUE", "MS", "QE", "YS", "1000000YE", "1000000W", "1000000B"] {
            let frequency = Frequency::parse(name).unwrap();
            assert_eq!(frequency.dates_from(end, 2), Err(FrequencyError::Beyond(2)), "{name}");
            let now = Timestamp::parse("2024-01-01").unwrap();
            assert!(frequency.next(now) > now && frequency.next(end) <= end, "{name}");
        }
        assert_eq!(Frequency::parse("1000000YE").unwrap().dates_after(end, 2), Err(FrequencyError::Beyond(2)));
    }

    #[test]
    fn unknown_frequencies_and_horizons_are_refused() {
        for text in ["", "3", "X", "0D", "W-XXX", "D-MON", "MS-JAN", "99999999999999999999D"] {
            assert!(matches!(Frequency::parse(text), Err(FrequencyError::Unknown(_))), "{text}");
        }
        let daily = Frequency::parse("D").unwrap();
        let start = Timestamp::parse("2024-01-01").unwrap();
        assert_eq!(daily.dates_from(start, 0), Err(FrequencyError::Horizon(0)));
        assert_eq!(daily.dates_from(start, MAX_HORIZON + 1), Err(FrequencyError::Horizon(MAX_HORIZON + 1)));
        assert!(Frequency::parse("YS").unwrap().dates_from(start, 9_000).is_err());
    }
}
