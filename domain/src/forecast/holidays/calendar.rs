//! Public holidays of countries, from python-holidays 0.109 (MIT licence): the table that Prophet reads at
//! prediction time, packed into the engine. `examples/prophet_cases` makes it.

use std::{collections::BTreeMap, io::Read};

use serde::Deserialize;

use crate::forecast::{error::ModelError, time::days_from_civil};

static TABLE: &[u8] = include_bytes!("country_holidays.json.gz");

/// The years that the table covers.
pub(in crate::forecast) const FIRST_YEAR: i64 = 2000;
/// See [`FIRST_YEAR`].
pub(in crate::forecast) const LAST_YEAR: i64 = 2050;

#[derive(Deserialize)]
struct Table {
    /// Other names of a country or market.
    aliases: BTreeMap<String, String>,
    /// Dates as the number yyyymmdd, by country and holiday.
    countries: BTreeMap<String, BTreeMap<String, Vec<i64>>>,
}

/// The holidays of a country or market, by any name that python-holidays knows it by: dates in days since
/// 1970-01-01, by holiday.
pub(super) fn of(country: &str) -> Result<BTreeMap<String, Vec<i64>>, ModelError> {
    let mut text = String::new();
    let unreadable =
        |error: std::io::Error| ModelError::at("country_holidays", format!("unreadable calendar: {error}"));
    flate2::read::GzDecoder::new(TABLE).read_to_string(&mut text).map_err(unreadable)?;
    let mut table: Table = serde_json::from_str(&text).map_err(|error| unreadable(error.into()))?;
    // Prophet's own name of Turkey.
    let name = if country == "TU" { "TR" } else { country };
    let code = table.aliases.get(name).map_or(name, String::as_str);
    let mut holidays = table.countries.remove(code).ok_or_else(|| ModelError::Country(country.to_owned()))?;
    for date in holidays.values_mut().flatten() {
        *date = days_from_civil(*date / 10_000, *date / 100 % 100, *date % 100);
    }
    Ok(holidays)
}
