"""Encryption of the simulated app, in some worlds: all that runs store goes through it. Rule S12."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson

from taskflow.codecs.codecs import AnyCodec, Codecs
from taskflow.codecs.compression import Compression
from taskflow.codecs.encryption import Encryption

CHANCE = 0.05
CODECS: list[AnyCodec] = [Encryption("the key of all simulated apps"), Compression(64)]
READER = Codecs(CODECS)


def codecs_of(seed: int) -> list[AnyCodec]:
    """Drawn by a chance of its own, so that worlds without it keep their histories."""
    return CODECS if Random(f"packed {seed}").random() < CHANCE else []


def read(stored: str) -> Any:
    """A stored value, whichever world it is of."""
    return orjson.loads(READER.decode(stored))
