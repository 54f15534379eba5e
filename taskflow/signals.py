"""Signals: a name for which one run of an app waits, and data for that run. Rule S3.4."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import orjson

from taskflow.errors import NonRetriableError
from taskflow.values.stored import dump

MAX_SIGNAL_CHARS = 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and halves of characters

OnConflict: TypeAlias = Literal["fail", "replace"]


@dataclass(frozen=True, slots=True)
class ReceivedSignal:
    """What a wait for a signal returns: the signal's name, and the JSON that was sent with it."""

    name: str
    data: Any

    @classmethod
    def from_wire(cls, obj: dict[str, Any]) -> ReceivedSignal:
        return cls(obj["name"], obj["data"])


def check_signal_name(name: object) -> str:
    """The name of a signal, 1 to 256 printable characters. Raises NonRetriableError."""
    if isinstance(name, str) and 1 <= len(name) <= MAX_SIGNAL_CHARS and not UNPRINTABLE.search(name):
        return name
    raise NonRetriableError(
        f"the name of a signal must be a string of 1 to {MAX_SIGNAL_CHARS} printable characters, but is {name!r:.80}"
    )


def check_on_conflict(on_conflict: object, *, what: str) -> bool:
    """Whether the wait takes the signal from who waits for it already. Raises NonRetriableError."""
    if on_conflict in get_args(OnConflict):
        return on_conflict == "replace"
    raise NonRetriableError(
        f"{what} on_conflict must be 'fail' or 'replace', but is {on_conflict!r}. 'fail': this step fails when another run "
        "waits for the signal; 'replace': that run's step fails instead."
    )


def encode_signal(name: str, data: Any, *, max_bytes: int) -> bytes:
    """What the waiting step gets, as JSON. Raises NonRetriableError, and SerializationError for data that is no JSON."""
    body = dump(data, what=f"the data of signal {check_signal_name(name)!r}")
    if len(body) > max_bytes:
        raise NonRetriableError(
            f"the data of signal {name!r} has {len(body):,} bytes of JSON, but max_event_bytes allows {max_bytes:,}. Store what "
            "is large elsewhere and send a reference to it, or raise max_event_bytes."
        )
    return b'{"name":' + orjson.dumps(name) + b',"data":' + body + b"}"
