"""Write the public holidays of all countries that python-holidays knows, in English, as Prophet asks for them."""

import argparse
import gzip
import json
from pathlib import Path

import holidays

YEARS = range(2000, 2051)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a .json.gz file")
    arguments = parser.parse_args()
    registry = {**holidays.registry.COUNTRIES, **holidays.registry.FINANCIAL}
    countries, aliases = {}, {}
    for names in registry.values():
        name, code, *others = names
        for alias in (name, *others):
            aliases[alias] = code
        calendar = getattr(holidays, name)(expand=False, language="en_US", years=YEARS)
        dates: dict[str, list[int]] = {}
        for date in sorted(calendar):
            for holiday in calendar.get_list(date):
                dates.setdefault(holiday, []).append(date.year * 10000 + date.month * 100 + date.day)
        countries[code] = dict(sorted(dates.items()))
    made_with = f"holidays {holidays.__version__}, language en_US, expand=False"
    table = {
        "made_with": made_with,
        "years": [YEARS[0], YEARS[-1]],
        "aliases": dict(sorted(aliases.items())),
        "countries": dict(sorted(countries.items())),
    }
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    arguments.out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
