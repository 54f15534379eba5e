"""The messages of a child to its supervisor: one JSON object a line, over a pipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, TypeAlias

import orjson

from taskflow.values.record import record


@record(kw_only=True)
class Hello:
    """The child has imported the app, and names its store and broker. It must not claim anything before `Ready`."""

    kind: ClassVar[str] = "hello"
    child_id: str
    app_id: str
    store_url: str  # may contain a password: never log it
    namespace: str = ""
    app_version: str = ""
    broker_url: str = ""  # may contain a password too
    retention_ms: int = 0
    queues: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "queues", tuple(self.queues))  # JSON makes a list of it


@record
class Ready:
    """The child has reached store and broker, and takes work.

    For the log, `about` says what it serves, and from which servers, and `warning` names a setting that is probably a mistake.
    """

    kind: ClassVar[str] = "ready"
    about: str = ""
    warning: str = ""


@record
class Failed:
    """The child can't work, since it can't import the app, or reach broker or store. It exits next.

    `message` says in plain words what went wrong, `hint` what to do.
    """

    kind: ClassVar[str] = "failed"
    message: str
    hint: str = ""


@record
class Recycle:
    """The child asks to be replaced, and goes on working until the replacement is ready. Rule S6.3."""

    kind: ClassVar[str] = "recycle"
    reason: str


@record
class Counted:
    """What the process has counted since its last message of this kind, and how it stands: a `Tally` as JSON. Rule S13.1."""

    kind: ClassVar[str] = "counted"
    tally: list[Any]


@record
class Blocked:
    """The child's event loop stands still, in code of these claims (a run, or steps that another process offers). Rule S9.9.

    None if it is the code of no run that is known.
    """

    kind: ClassVar[str] = "blocked"
    jobs: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", tuple(self.jobs))


Message: TypeAlias = Hello | Ready | Failed | Recycle | Counted | Blocked

MESSAGE_TYPES: dict[str, type[Message]] = {
    cls.kind: cls for cls in (Hello, Ready, Failed, Recycle, Counted, Blocked)
}


def encode(message: Message) -> bytes:
    """The message as one line, newline included."""
    told = {each.name: getattr(message, each.name) for each in fields(message)}
    return orjson.dumps({"kind": message.kind, **told}, option=orjson.OPT_APPEND_NEWLINE)


def decode(line: bytes) -> Message:
    """The message in a line. Raises ValueError if it is none."""
    try:
        told: dict[str, Any] = orjson.loads(line)
        message_type = MESSAGE_TYPES[told.pop("kind")]
        return message_type(**told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a message of a child ({', '.join(MESSAGE_TYPES)}), got {line[:200]!r}"
        ) from error
