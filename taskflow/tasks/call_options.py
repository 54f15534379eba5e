"""CallOptions: the options of one call of a task, and as `CallSettings` their checked form. Rule S15.2."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, TypedDict, Unpack, get_args

from taskflow.config import check_slug
from taskflow.errors import ConfigError
from taskflow.event import MAX_ID_CHARS, is_text
from taskflow.flow.priority import MAX_PRIORITY_S
from taskflow.function import FunctionSpec
from taskflow.headers import Headers, find_header_problem
from taskflow.tasks.options import kept_ms
from taskflow.types import Duration, When
from taskflow.values.durations import parse_duration_ms, parse_when_ms
from taskflow.values.keywords import check_keywords

PriorityName: TypeAlias = Literal["highest", "high", "normal", "low", "lowest"]

PRIORITIES: dict[PriorityName, int] = {
    "highest": MAX_PRIORITY_S, "high": 300, "normal": 0, "low": -300, "lowest": -MAX_PRIORITY_S
}  # fmt: skip
"""By how many seconds a run goes ahead of others that are as old. Rule S7.2."""


class CallOptions(TypedDict, total=False):
    """The options of one call of a task; None counts as left out.

    countdown  a duration before the run may begin, at most 1 year; no worker holds it meanwhile (S15.2)
    eta        the moment when it may begin, in place of `countdown`: an aware datetime, ISO-8601 with an offset, or ms
    expires    a run that has not begun by then is cancelled: a duration from now, or an aware datetime (S15.2)
    queue      the queue in which it executes, in place of the task's; a worker must serve it (`-Q`) (S7.2)
    priority   "highest", "high", "normal", "low", "lowest", or seconds from -600 to 600 by which it goes ahead (S7.2)
    id         your own id: as long as its run is kept, another call with it makes no run, and returns that one (S15.2)
    headers    short strings by name, over those of the run that makes the call (S15.2)
    keep       how long the run is kept if it does not fail, in place of the task's `keep` (S15.2)
    """

    countdown: Duration | None
    eta: When | None
    expires: Duration | datetime | None
    queue: str | None
    priority: PriorityName | int | None
    id: str | None
    headers: Headers | None
    keep: Duration | None


class CallSettings(NamedTuple):
    """Checked options, as far as they don't depend on the time of the call."""

    options: CallOptions
    queue: str | None = None
    id: str = ""
    ahead_ms: int | None = None
    keep_ms: int | None = None

    @classmethod
    def of(cls, **options: Unpack[CallOptions]) -> CallSettings:
        """Raises ConfigError for a wrong value, InvalidDuration, TypeError for an option that does not exist."""
        check_keywords(options, CallOptions, what="options()")
        queue, call_id, keep, headers = (options.get(name) for name in ("queue", "id", "keep", "headers"))
        if call_id is not None and not is_text(call_id, MAX_ID_CHARS):
            raise ConfigError(f"id must be a str of 1 to {MAX_ID_CHARS} characters, got {call_id!r:.80}")
        if headers is not None and (problem := find_header_problem(headers)):
            raise ConfigError(problem)
        settings = cls(
            options,
            queue=None if queue is None else check_slug(queue, what="queue"),
            id=options.get("id") or "",
            ahead_ms=ahead_ms(options.get("priority")),
            keep_ms=None if keep is None else kept_ms(options["keep"] or 0),
        )
        settings.due_ms(0)
        return settings

    def due_ms(self, now_ms: int) -> int:
        """When (ms since the epoch) the run may begin; 0 for at once."""
        countdown, eta = self.options.get("countdown"), self.options.get("eta")
        if countdown is not None and eta is not None:
            raise ConfigError("a call takes countdown=... or eta=..., not both")
        if eta is not None:
            return parse_when_ms(eta, now_ms=now_ms or MIN_NOW_MS, what="eta")
        return 0 if countdown is None else now_ms + parse_duration_ms(countdown, what="countdown")

    def expires_at_ms(self, spec: FunctionSpec, now_ms: int) -> int:
        """When (ms since the epoch) the run expires; 0 for never. Raises ConfigError if that is before it may begin."""
        expires = self.options.get("expires")
        if expires is None:
            start_ms = max(self.due_ms(now_ms), now_ms)
            return 0 if spec.expires_ms is None else start_ms + spec.expires_ms
        if isinstance(expires, datetime):
            at_ms = parse_when_ms(expires, now_ms=now_ms, what="expires")
        else:
            at_ms = now_ms + parse_duration_ms(expires, what="expires")
        if at_ms <= max(self.due_ms(now_ms), now_ms):
            raise ConfigError(f"the call would expire before it may begin: expires={expires!r}")
        return at_ms


# For the check of an `eta` when the options are given: the time of the call is not known yet.
MIN_NOW_MS = 4_000_000_000_000


def ahead_ms(priority: PriorityName | int | None) -> int | None:
    if priority is None:
        return None
    if isinstance(priority, str):
        if priority in PRIORITIES:
            return PRIORITIES[priority] * 1000
    elif type(priority) is int and abs(priority) <= MAX_PRIORITY_S:
        return priority * 1000
    raise ConfigError(
        f"priority must be one of {', '.join(map(repr, get_args(PriorityName)))}, or seconds from -{MAX_PRIORITY_S} to "
        f"{MAX_PRIORITY_S} by which the run goes ahead of others that are as old, got {priority!r:.80}"
    )


PLAIN = CallSettings({})
