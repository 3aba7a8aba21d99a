//! Holiday effects: which column of the design is 1 on which date.

mod calendar;

use std::collections::{BTreeMap, BTreeSet};

use super::{error::ModelError, raw, time::Timestamp};

pub(super) use calendar::{FIRST_YEAR, LAST_YEAR};

/// The holidays of a model, laid out as columns in Prophet's order.
#[derive(Debug, Clone)]
pub(super) struct Holidays {
    /// The holiday of each column, in the order of the columns.
    names: Vec<String>,
    /// `(days since 1970-01-01, column)`, ascending.
    dates: Vec<(i64, usize)>,
    country: Option<String>,
}

impl Holidays {
    /// From the model's own rows, its country and the names it was trained with; `None` without any holiday.
    /// At most `limit` columns.
    pub(super) fn new(
        rows: Option<&str>,
        country: Option<String>,
        trained: Option<&str>,
        limit: usize,
    ) -> Result<Option<Self>, ModelError> {
        let trained = trained.map(|text| raw::field::<raw::Table<String>>("train_holiday_names", text)).transpose()?;
        let trained = trained.map(|table| table.data.into_iter().collect::<BTreeSet<_>>());
        let known = |name: &str| trained.as_ref().is_none_or(|names| names.contains(name));
        let mut days: BTreeMap<(String, i64), BTreeSet<i64>> = BTreeMap::new();
        for row in rows.map_or(Ok(Vec::new()), own)? {
            for offset in row.offsets(limit)?.filter(|_| known(&row.name)) {
                days.entry((row.name.clone(), offset)).or_default().insert(row.day + offset);
            }
        }
        if let Some(country) = &country {
            for (name, dates) in calendar::of(country)?.into_iter().filter(|(name, _)| known(name)) {
                days.entry((name, 0)).or_default().extend(dates);
            }
        }
        for name in trained.into_iter().flatten() {
            if !days.keys().any(|(known, _)| *known == name) {
                days.insert((name, 0), BTreeSet::new());
            }
        }
        if days.len() > limit {
            return Err(ModelError::at("holidays", format!("{} columns, but params.beta has {limit}", days.len())));
        }
        let mut columns: Vec<_> =
            days.into_iter().map(|((name, at), dates)| (column(&name, at), name, dates)).collect();
        columns.sort_by(|one, other| one.0.cmp(&other.0));
        let mut dates: Vec<_> =
            columns.iter().enumerate().flat_map(|(at, (_, _, days))| days.iter().map(move |day| (*day, at))).collect();
        dates.sort_unstable();
        let names: Vec<_> = columns.into_iter().map(|(_, name, _)| name).collect();
        Ok((!names.is_empty()).then_some(Self { names, dates, country }))
    }

    /// The holiday of each column.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The country whose calendar is needed.
    pub(super) fn country(&self) -> Option<&str> {
        self.country.as_deref()
    }

    /// The columns that are 1 on a date.
    pub(super) fn on(&self, time: Timestamp) -> impl Iterator<Item = usize> {
        let day = time.day();
        let from = self.dates.partition_point(|(known, _)| *known < day);
        self.dates[from..].iter().take_while(move |(known, _)| *known == day).map(|(_, column)| *column)
    }
}

/// The column's name in Prophet, by which columns are sorted.
fn column(name: &str, offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{name}_delim_{sign}{}", offset.abs())
}

struct Own {
    name: String,
    day: i64,
    window: (f64, f64),
}

impl Own {
    /// The days around it that count.
    fn offsets(&self, limit: usize) -> Result<impl Iterator<Item = i64> + use<>, ModelError> {
        let (lower, upper) = self.window;
        let wide = |reason: &str| ModelError::at("holidays", format!("`{}` has {reason}", self.name));
        if !(lower.abs() < 1e6 && upper.abs() < 1e6) {
            return Err(wide("a window of more than a million days"));
        }
        #[allow(clippy::cast_possible_truncation)]
        let (lower, upper) = (lower as i64, upper as i64);
        if usize::try_from(upper - lower).is_ok_and(|width| width >= limit) {
            return Err(wide("a wider window than params.beta has entries"));
        }
        Ok(lower..=upper)
    }
}

fn own(text: &str) -> Result<Vec<Own>, ModelError> {
    let table: raw::Table<raw::HolidayRow> = raw::field("holidays", text)?;
    let rows = table.data.into_iter().map(|row| {
        let time = Timestamp::parse_utc(&row.ds)
            .map_err(|error| ModelError::at("holidays", format!("`{}`: {error}", row.holiday)))?;
        // Prophet ignores both ends of a window if either is missing.
        let window = row.lower_window.zip(row.upper_window).unwrap_or((0.0, 0.0));
        Ok(Own { name: row.holiday, day: time.day(), window })
    });
    rows.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROWS: &str = r#"{"data": [
        {"holiday": "sale", "ds": "2024-03-10T00:00:00.000", "lower_window": -1, "upper_window": 10},
        {"holiday": "fair", "ds": "2024-03-10T00:00:00.000Z", "lower_window": null, "upper_window": 1},
        {"holiday": "late", "ds": "2024-03-11"}]}"#;

    fn on(holidays: &Holidays, date: &str) -> Vec<usize> {
        holidays.on(Timestamp::parse(date).unwrap()).collect()
    }

    #[test]
    fn columns_are_sorted_as_text_and_windows_need_both_ends() {
        let holidays = Holidays::new(Some(ROWS), None, None, 20).unwrap().unwrap();
        let names = holidays.names();
        assert_eq!(
            (names.len(), names[0].as_str(), names[1].as_str(), names[2].as_str()),
            (14, "fair", "late", "sale")
        );
        // fair_+0, late_+0, sale_+0, sale_+1, sale_+10, sale_+2, ..., sale_+9, sale_-1
        assert_eq!(on(&holidays, "2024-03-10T23:59:59"), [0, 2]);
        assert_eq!(on(&holidays, "2024-03-20"), [4]);
        assert_eq!(on(&holidays, "2024-03-09"), [13]);
        assert_eq!(on(&holidays, "2024-03-11"), [1, 3]);
        assert!(on(&holidays, "2024-03-21").is_empty());
    }

    #[test]
    fn names_that_were_not_trained_go_and_trained_names_stay_without_dates() {
        let trained = r#"{"data": ["late", "gone"]}"#;
        let holidays = Holidays::new(Some(ROWS), None, Some(trained), 20).unwrap().unwrap();
        assert_eq!(holidays.names(), ["gone", "late"]);
        assert_eq!(on(&holidays, "2024-03-11"), [1]);
        assert!(Holidays::new(None, None, None, 20).unwrap().is_none());
    }

    #[test]
    fn countries_have_their_dates_and_old_names() {
        let trained = r#"{"data": ["Christmas Day", "Republic Day"]}"#;
        let british = Holidays::new(None, Some("GB".into()), Some(trained), 20).unwrap().unwrap();
        assert_eq!((on(&british, "2031-12-25").len(), on(&british, "2031-12-24").len()), (1, 0));
        let turkish = Holidays::new(None, Some("TU".into()), Some(trained), 20).unwrap().unwrap();
        assert_eq!(on(&turkish, "2031-10-29").len(), 1);
        let missing = Holidays::new(None, Some("XX".into()), None, 20);
        assert!(matches!(missing, Err(ModelError::Country(name)) if name == "XX"));
    }

    #[test]
    fn windows_wider_than_the_model_are_refused() {
        let rows = r#"{"data": [{"holiday": "x", "ds": "2024-01-01", "lower_window": -900000, "upper_window": 0}]}"#;
        assert!(Holidays::new(Some(rows), None, None, 20).is_err());
    }
}
