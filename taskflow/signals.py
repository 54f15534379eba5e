"""Signals: data that is sent to the one run of an app that waits for the signal's name. Rule S3.4."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import orjson

from taskflow.errors import NonRetriableError
from taskflow.values.record import record
from taskflow.values.stored import dump

if TYPE_CHECKING:
    from taskflow.codecs.codecs import Codecs

MAX_SIGNAL_CHARS = 256
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and lone surrogates

OnConflict: TypeAlias = Literal["fail", "replace"]


@record
class ReceivedSignal:
    """The result of `step.wait_for_signal`: the signal's `name`, and the `data` (any JSON) that was sent with it. Rule S3.4."""

    name: str
    data: Any

    @classmethod
    def from_wire(cls, obj: dict[str, Any], codecs: Codecs) -> ReceivedSignal:
        """Read what `encode_signal` made. Raises DecodeError."""
        return cls(obj["name"], codecs.opened_member(obj["data"]))


def check_signal_name(name: object) -> str:
    """Return the name of a signal if it has 1 to 256 printable characters. Raises NonRetriableError otherwise."""
    if isinstance(name, str) and 1 <= len(name) <= MAX_SIGNAL_CHARS and not UNPRINTABLE.search(name):
        return name
    raise NonRetriableError(
        f"the name of a signal must be a string of 1 to {MAX_SIGNAL_CHARS} printable characters, but is {name!r:.80}"
    )


def check_on_conflict(on_conflict: object, *, what: str) -> bool:
    """Whether the wait takes the signal from the run that waits for it already. Raises NonRetriableError."""
    if on_conflict in get_args(OnConflict):
        return on_conflict == "replace"
    raise NonRetriableError(
        f"{what} on_conflict must be 'fail' or 'replace', but is {on_conflict!r}. 'fail': this step fails when another run "
        "waits for the signal; 'replace': that run's step fails instead."
    )


def encode_signal(name: str, data: Any, codecs: Codecs, *, max_bytes: int) -> bytes:
    """The signal's data as JSON. Raises NonRetriableError if it is too large, and SerializationError if it has no JSON form."""
    body = dump(data, codec=codecs, what=f"the data of signal {check_signal_name(name)!r}")
    if len(body) > max_bytes:
        raise NonRetriableError(
            f"the data of signal {name!r} has {len(body):,} bytes of JSON, but max_event_bytes allows {max_bytes:,}. Store what "
            "is large elsewhere and send a reference to it, or raise max_event_bytes."
        )
    return b'{"name":' + orjson.dumps(name) + b',"data":' + body + b"}"
