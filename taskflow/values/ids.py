"""ULIDs, and ids derived from an event and a function.

A ULID is 26 characters of Crockford's base32: 10 for the milliseconds since the epoch, 16 random ones.
As text it sorts by time.
"""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache
from hashlib import blake2b
from random import Random

from taskflow.types import RunId

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DIGITS = frozenset(ALPHABET)
MAX_ULID_MS = (1 << 48) - 1
# When the clock is set back by at most this much, ids keep the latest time seen, and so their order.
# A clock that goes back further is another clock (a test's, or a machine's after a correction), and ids follow it.
MAX_BACKSTEP_MS = 60_000

PAIRS = tuple(a + b for a in ALPHABET for b in ALPHABET)
VALUES = {char: value for value, char in enumerate(ALPHABET)}


def encode_time(ms: int) -> str:
    """The first 10 characters of a ULID."""
    if not 0 <= ms <= MAX_ULID_MS:
        raise ValueError(f"a ULID holds 0 to {MAX_ULID_MS} ms since the epoch, got {ms}")
    return (
        PAIRS[ms >> 40]
        + PAIRS[ms >> 30 & 1023]
        + PAIRS[ms >> 20 & 1023]
        + PAIRS[ms >> 10 & 1023]
        + PAIRS[ms & 1023]
    )


def encode_40_bits(bits: int) -> str:
    """`bits` (40 of them) as 8 characters."""
    return PAIRS[bits >> 30] + PAIRS[bits >> 20 & 1023] + PAIRS[bits >> 10 & 1023] + PAIRS[bits & 1023]


def time_span(prefix: str) -> tuple[int, int]:
    """The first and the last time (ms since epoch) of the ULIDs that begin with `prefix`. Raises ValueError if none can."""
    begin = prefix[:10]
    if not set(begin) <= set(ALPHABET):
        raise ValueError(f"no ULID begins with {prefix!r}")
    ends = (begin.ljust(10, fill) for fill in (ALPHABET[0], ALPHABET[-1]))
    first, last = (sum(VALUES[char] << 5 * (9 - place) for place, char in enumerate(end)) for end in ends)
    return first, last


class UlidGenerator:
    """Makes ULIDs that grow strictly within a process; thread-safe.

    Within one millisecond the last 40 bits count up from a random start, so that only they are encoded anew.
    """

    def __init__(self) -> None:
        self.reseed()

    def reseed(self, seed: bytes | None = None) -> None:
        """Start over with fresh randomness and a free lock, as a forked child must; or from `seed`, for a simulation."""
        # Not the `random` module's own generator: user code may seed it, and two processes with the same seed
        # would make the same ids.
        self._random = Random(os.urandom(32) if seed is None else seed)
        self._lock = threading.Lock()
        self._last_ms = -1
        self._span: tuple[int | None, str] = (None, "")  # the last ms >> 10, and how its ULIDs begin
        self._prefix = ""
        self._tail = 0

    def new(self, now_ms: int | None = None) -> str:
        """A new ULID. `now_ms` (ms since epoch) is by default the system's time."""
        ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        with self._lock:
            if ms > self._last_ms or ms < self._last_ms - MAX_BACKSTEP_MS:
                if ms >> 10 != self._span[0]:
                    self._span = (ms >> 10, encode_time(ms)[:8])
                self._prefix = self._span[1] + PAIRS[ms & 1023] + encode_40_bits(self._random.getrandbits(40))
                self._last_ms = ms
                # The top bit stays clear, so that counting up never overflows.
                self._tail = tail = self._random.getrandbits(39)
            else:
                self._tail = tail = self._tail + 1
            return (
                self._prefix
                + PAIRS[tail >> 30]
                + PAIRS[tail >> 20 & 1023]
                + PAIRS[tail >> 10 & 1023]
                + PAIRS[tail & 1023]
            )


GENERATOR = UlidGenerator()
# Without this a forked child would go on with its parent's counter, and might inherit a lock whose holder, a thread
# of the parent, does not exist in the child.
os.register_at_fork(after_in_child=GENERATOR.reseed)


def new_ulid(now_ms: int | None = None) -> str:
    """A new ULID (26 characters), greater than every ULID that this process has made before.

    Only a clock that is set back by more than a minute breaks that order; ids stay unique even then.
    """
    return GENERATOR.new(now_ms)


def new_secret() -> bytes:
    """A key for `derive_ulid`."""
    # Not the generator's randomness, which the ids of events show to everybody.
    return os.urandom(16).hex().encode()


def derive_ulid(source: str, at_ms: int, *, secret: bytes) -> str:
    """The ULID of `source` at `at_ms` (ms since epoch): the same arguments give the same id. Rules S1.7, S3.5.

    Who does not know the secret can't tell it, and so can't send an event that takes its place.
    """
    bits = int.from_bytes(blake2b(source.encode(), digest_size=10, key=secret).digest())
    return encode_time(at_ms) + encode_40_bits(bits >> 40) + encode_40_bits(bits & (1 << 40) - 1)


def is_ulid(value: object) -> bool:
    """Whether `value` is the text of a ULID, in the upper case that this module writes."""
    return isinstance(value, str) and len(value) == 26 and value[0] < "8" and DIGITS.issuperset(value)


def ulid_ms(ulid: str) -> int:
    """The time in a ULID, in ms since the epoch. Raises ValueError for anything but a ULID."""
    if not is_ulid(ulid):
        raise ValueError(f"expected a ULID (26 characters of {ALPHABET}), got {ulid!r}")
    ms = 0
    for char in ulid[:10]:
        ms = ms << 5 | VALUES[char]
    return ms


def run_id_for(event_uid: str, function_id: str) -> RunId:
    """The id of the run of this function that the event starts. The same each time, so routing twice makes one run. Rule S9.1."""
    return RunId(f"{event_uid}-{function_suffix(function_id)}")


@lru_cache(maxsize=4096)
def function_suffix(function_id: str) -> str:
    """6 lower-case base32 characters that stand for `function_id` in its run ids."""
    bits = int.from_bytes(blake2b(function_id.encode(), digest_size=4).digest()) >> 2
    return (PAIRS[bits >> 20] + PAIRS[bits >> 10 & 1023] + PAIRS[bits & 1023]).lower()
