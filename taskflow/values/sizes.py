"""Sizes: a number of bytes, or a text like "512KiB"."""

from __future__ import annotations

import re

from taskflow.errors import ConfigError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB}
SIZE = re.compile(r"([0-9][0-9_]*)\s*([a-z]*)", re.IGNORECASE)
# Python refuses to read numbers of thousands of digits.
MAX_DIGITS = 18


def parse_size(value: object, *, at_most: int, what: str) -> int:
    """The number of bytes. Raises ConfigError, which names `what`."""
    match = SIZE.fullmatch(value) if isinstance(value, str) else None
    size = value
    if match is not None and match[2].lower() in UNITS and len(match[1]) <= MAX_DIGITS:
        size = int(match[1]) * UNITS[match[2].lower()]
    if type(size) is not int or not 1 <= size <= at_most:
        raise ConfigError(
            f"{what} must be a number of bytes from 1 to {at_most:,}, got {value!r:.80}. It may be written like '512KiB' or '4MiB'."
        )
    return size


def format_size(size: int) -> str:
    """A size for people: "812 bytes", "1.5 KiB", "10 MiB"."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size} bytes"
