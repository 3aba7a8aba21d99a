"""Made-up requests that an artifact carries as examples: the ordinary, and every trap of the contract.

Headlines are invented, none is from the data. Ids are the first and last of the trained vocabulary, or
unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UPWORTHY_HEADLINES = {
    "plain": "A Librarian Kept One Overdue Book For Forty Years. Here Is Why.",
    "question": "What Would YOU Plant On A Roof With 9 Square Metres?",
    "loud": "STOP Scrolling! This Bridge Was Built By Children!",
    "short": "Rain",
    "unicode": "Zürich Baut Für Kinder, 東京 Too \N{THUMBS UP SIGN}",
    "long": "The Town That Nobody Could Find On A Map Has A School And A Bakery And One Very Patient Donkey "
    "Who Knows Them All",
}

Request = tuple[str, Mapping[str, Any]]


def upworthy_requests(known: Mapping[str, Sequence[str]], headlines: Mapping[str, dict[str, Any]]) -> list[Request]:
    """`known` are trained ids by field, `headlines` the derived features of `UPWORTHY_HEADLINES`."""
    week: dict[str, Any] = {"week": known["week"][0]}
    warm = {"test_id": known["test_id"][0], "eyecatcher_id": known["eyecatcher_id"][-1]} | week
    cold = {"test_id": "a-test-never-seen", "eyecatcher_id": "an-image-never-seen"} | week
    plain = headlines["plain"]
    return [
        ("known test, image and week", warm | plain),
        ("known test, unknown image", warm | {"eyecatcher_id": "an-image-never-seen"} | headlines["question"]),
        ("unknown test, known image", warm | {"test_id": "a-test-never-seen"} | headlines["loud"]),
        ("unknown test and image", cold | headlines["short"]),
        ("last known test and week", {"test_id": known["test_id"][-1], "week": known["week"][-1]} | plain),
        ("more tokens than slots: the first are kept", warm | headlines["long"]),
        (
            "tokens beyond ASCII, composed and decomposed",
            warm
            | headlines["unicode"]
            | {"headline": ["zürich", "zu\u0308rich", "東京", "\N{THUMBS UP SIGN}\U0001f3fd", "a\x1fb", "\xa0x\xa0"]},
        ),
        (
            "no trimming, no lower case: these ids are unknown, these tokens are their own",
            {
                "test_id": f" {known['test_id'][0]}",
                "eyecatcher_id": known["eyecatcher_id"][-1].upper() + " ",
                **week,
                **plain,
                "headline": ["Rain", "rain", " rain"],
            },
        ),
        (
            "blank text is missing; a blank token keeps its place, and the list is cut as it came",
            {
                "test_id": "",
                "eyecatcher_id": "",
                "week": "",
                **plain,
                "headline": ["", "word0", "", *(f"word{i}" for i in range(1, 20))],
            },
        ),
        (
            "whole numbers are decimal text, truth values true and false",
            {
                "test_id": -9223372036854775808,
                "eyecatcher_id": True,
                "week": int(known["week"][0]),
                **plain,
                "headline": "alone",
                "has_question": True,
                "has_digit": False,
            },
        ),
        (
            "counts at zero and far out, fractions, an empty list",
            warm
            | {
                "test_id": 9223372036854775807,
                "headline": [],
                "headline_chars": 0,
                "headline_words": 0.5,
                "upper_words": 40,
                "has_question": 0,
                "has_exclamation": 1,
                "has_digit": 0.25,
            },
        ),
        ("null is missing", {"test_id": None, "headline": None, "headline_chars": None} | week),
        ("every field missing", {}),
    ]


def open_bandit_requests(known: Mapping[str, Sequence[str]]) -> list[Request]:
    """`known` are trained ids by field."""
    first = {name: values[0] for name, values in known.items()}
    last = {name: values[-1] for name, values in known.items()}
    numbers = {"affinity_item": 0.0, "affinity_total": 2.0, "item_feature_0": -0.5}
    return [
        ("known ids, the first of each", first | numbers),
        ("known ids, the last of each", last | {"affinity_item": 1, "affinity_total": 3.5, "item_feature_0": 0.25}),
        ("unknown item in a known slot", first | {"item": "an-item-never-seen"} | numbers),
        ("unknown user", last | {f"user_feature_{i}": "never-seen" for i in range(4)} | numbers),
        ("hour as a number is not the text of two digits", first | {"hour": 7} | numbers),
        ("blank and null are missing", first | {"item": "", "slot": None}),
        ("every field missing", {}),
    ]
