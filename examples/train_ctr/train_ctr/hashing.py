"""Byte-level text rules and the hash scheme `aibuyer-hash-v1`.

No Unicode normalisation or case folding: their tables change between Unicode versions, so trainer and
server could disagree. Producers send NFC.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

SCHEME = "aibuyer-hash-v1"
SEPARATOR = b"\x1f"

# Exactly these five bytes. `bytes.strip()` would also take 0x0B, `str.strip()` also U+00A0.
_ASCII_WHITESPACE = b"\t\n\x0c\r "
_ASCII_LOWER = bytes(byte + 32 if 0x41 <= byte <= 0x5A else byte for byte in range(256))

NORMALIZERS = {
    "trim_ascii": lambda text: text.strip(_ASCII_WHITESPACE),
    "ascii_lower": lambda text: text.translate(_ASCII_LOWER),
}


def normalize(text: bytes, steps: Iterable[str]) -> bytes:
    """Applies the named steps to UTF-8 `text`, in order. Empty output means: missing."""
    for step in steps:
        text = NORMALIZERS[step](text)
    return text


def hash64(field: str, value: bytes) -> int:
    """Unsigned 64-bit hash of a normalised UTF-8 `value` of `field`."""
    return xxhash.xxh3_64_intdigest(field.encode("utf-8") + SEPARATOR + value, seed=0)
