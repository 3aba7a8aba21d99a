import json
from pathlib import Path

from train_ctr.hashing import hash64, normalize


def test_all_hash_vectors(testdata: Path) -> None:
    vectors = json.loads((testdata / "hash_vectors.json").read_text(encoding="utf-8"))["vectors"]
    assert len(vectors) == 29
    for vector in vectors:
        steps = [step for step in ("trim_ascii", "ascii_lower") if vector[step]]
        text = normalize(vector["value"].encode("utf-8"), steps)
        assert text.hex() == vector["normalized_utf8_hex"], vector
        assert (text == b"") == vector["missing"], vector
        if text:
            digest = hash64(vector["field"], text)
            assert digest == int(vector["xxh3_64"]), vector
            assert 2 + digest % vector["buckets"] == vector["row"], vector
