"""A small synthetic archive whose truth is known."""

from __future__ import annotations

import numpy as np
from train_ctr.upworthy import Creative

WORDS = [f"word{i}" for i in range(60)]


def creatives() -> list[Creative]:
    """200 tests of 8 creatives; log-odds = base + test effect + mean word effect + scatter."""
    rng = np.random.default_rng(3)
    word_effect = rng.normal(0, 1.0, len(WORDS))
    made = []
    for test in range(200):
        test_effect = rng.normal(0, 0.4)
        for creative in range(8):
            words = rng.integers(0, len(WORDS), 6)
            log_odds = -3.5 + test_effect + word_effect[words].mean() + rng.normal(0, 0.1)
            impressions = int(rng.integers(2000, 4000))
            clicks = int(rng.binomial(impressions, 1 / (1 + np.exp(-log_odds))))
            headline = " ".join(WORDS[word] for word in words)
            made.append(
                Creative(
                    f"test{test:03}", str(201301 + test % 12), f"image{test}-{creative}", headline, impressions, clicks
                )
            )
    return made
