import json
from pathlib import Path

import numpy as np
import pytest
from train_ctr.interval import ctr_interval, recover_logits


def test_all_interval_vectors(testdata: Path) -> None:
    document = json.loads((testdata / "interval_vectors.json").read_text(encoding="utf-8"))
    assert len(document["vectors"]) == 12
    for vector in document["vectors"]:
        found = ctr_interval(vector["logit"], vector["logit_variance"], vector["level"])
        wanted = (vector["ctr"], vector["lower"], vector["upper"])
        assert found == pytest.approx(wanted, rel=document["rel_tol"], abs=0), vector


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_logit_and_variance_come_back_from_a_reply(level: float) -> None:
    logit = np.array([-9.0, -4.1, -0.3, 0.0, 0.2, 3.0])[:, None]
    variance = np.array([0.0, 1e-4, 0.08, 0.4, 3.0, 9.0])[None, :]
    z, v = recover_logits(*ctr_interval(logit, variance, level), level)
    assert np.broadcast_to(logit, z.shape) == pytest.approx(z, abs=1e-12)
    assert v == pytest.approx(np.broadcast_to(variance, v.shape), rel=1e-8, abs=1e-12)
