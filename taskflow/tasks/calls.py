"""Calls: makes the runs of a task's calls, from any process, with or without the task's code. Rules S15.1, S15.2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflow.call_plans import CallPlan, PlannedCall
from taskflow.errors import ConfigError, InvalidEvent
from taskflow.event import INVOKED, WireEvent
from taskflow.function import FunctionSpec
from taskflow.headers import NO_HEADERS, Headers, find_header_problem, inherit
from taskflow.middleware.hooks import Hooks
from taskflow.observability.run_log import current_run
from taskflow.tasks.call_options import CallSettings
from taskflow.types import JsonObject, RunId
from taskflow.values.ids import new_ulid, run_id_for
from taskflow.values.stored import dump

if TYPE_CHECKING:
    from taskflow.codecs.codecs import Codecs
    from taskflow.connections import Connections

CALLS_PAGE = 500
"""Runs in one script, so that it keeps the server for a few milliseconds."""


class Maker(NamedTuple):
    """The run in which a call is made: the new run has its headers, and names it as its parent. Rule S15.2."""

    headers: Headers = NO_HEADERS
    parent: str = ""

    @classmethod
    def here(cls, hooks: Hooks) -> Maker:
        """The run of the present code, if any; `hooks` are those of the task's app."""
        facts = current_run.get()
        if facts is None and not hooks.transform_headers:
            return NOBODY
        headers: Any = {} if facts is None else facts.get("headers") or {}
        headers = inherit(headers, hooks.headers_of_call(None))
        return cls(headers, "" if facts is None else str(facts["run_id"]))


NOBODY = Maker()


def encode_call(
    spec: FunctionSpec,
    given: JsonObject,
    settings: CallSettings,
    maker: Maker,
    *,
    codecs: Codecs,
    now_ms: int,
    max_bytes: int,
) -> PlannedCall:
    """A call with these arguments, by the names of the parameters. Raises SerializationError, InvalidEvent, ExpressionError.

    Fields of the arguments are encrypted like those of events (S12.2). They don't count where two calls of one id are compared.
    """
    uid = new_ulid(now_ms)
    wire: WireEvent = {"uid": uid, "id": settings.id or uid, "name": INVOKED, "data": given, "ts": now_ms}
    if headers := inherit(maker.headers, settings.options.get("headers")):
        if maker.headers and (problem := find_header_problem(headers)):
            raise InvalidEvent(f"a call of {spec.id}: {problem}")
        wire["headers"] = dict(headers)
    if maker.parent:
        wire["parent"] = maker.parent
    stored, told = wire, given
    if codecs.event_fields:
        # Few apps encrypt.
        from taskflow.codecs.event_fields import encode_event, without_fields

        stored, told = (
            encode_event(codecs, wire, what=f"a call of {spec.id}"),
            without_fields(codecs, wire)["data"],
        )
    event = dump(stored, what=f"a call of {spec.id}")
    if len(event) > max_bytes:
        raise InvalidEvent(
            f"a call of {spec.id} has {len(event):,} bytes of JSON, but max_event_bytes allows {max_bytes:,}. "
            "Store what is large elsewhere and send a reference to it, or raise max_event_bytes."
        )
    flow = b""
    if spec.flow.limits or spec.keep or settings.ahead_ms is not None:
        flow = spec.flow.plan(spec.id, wire, keep=spec.keep, ahead_ms=settings.ahead_ms)
    digest = ""
    if settings.id:
        digest = blake2b(dump(told, what=f"a call of {spec.id}"), digest_size=16).hexdigest()
    return PlannedCall(run_id_for(uid, spec.id), flow, event, digest)


def plan_calls(spec: FunctionSpec, settings: CallSettings, queue: str, *, now_ms: int) -> CallPlan:
    """What all calls with these settings have in common. Raises ConfigError, InvalidDuration."""
    due_ms = settings.due_ms(now_ms)
    expires_at_ms = settings.expires_at_ms(spec, now_ms)
    start_timeout_ms = spec.timeouts.start_ms or 0
    if expires_at_ms:
        left_ms = expires_at_ms - max(due_ms, now_ms)
        if start_timeout_ms and start_timeout_ms < left_ms:
            expires_at_ms = 0
        else:
            start_timeout_ms = left_ms
    keep = "" if settings.keep_ms is None else f"{settings.keep_ms} {spec.keep_failed_ms or ''}"
    return CallPlan(
        spec.id,
        queue,
        due_ms,
        start_timeout_ms,
        spec.timeouts.finish_ms or 0,
        expires_at_ms,
        keep,
        settings.id,
    )


async def start_calls(
    link: Connections, spec: FunctionSpec, settings: CallSettings, calls: Sequence[PlannedCall], *, queue: str = "", now_ms: int
) -> list[RunId]:  # fmt: skip
    """Make the runs of these calls; return the run that stands for each. `queue` beats the task's, and the call's beats both.

    Raises StoreUnavailable, and ConfigError for an id that is known with other arguments (S15.2).
    """
    plan = plan_calls(spec, settings, settings.queue or queue or spec.queue, now_ms=now_ms)
    version, made, hints = link.config.app_version, [], []
    async with link.session().deadline() as store:
        pages = [
            store.routing.start_calls(plan, calls[at : at + CALLS_PAGE], version=version, now_ms=now_ms)
            for at in range(0, len(calls), CALLS_PAGE)
        ]
        for page in pages:
            run_ids, told = await page
            made += run_ids
            hints += told
    if hints:
        await link.tell(hints)
    stands = [run_id for run_id in made if run_id is not None]
    if len(stands) < len(made):
        raise ConfigError(
            f"task {spec.id!r} was called with id={settings.id!r} and other arguments than before, and that run is still kept; "
            "an id stands for one call: choose another, or give the same arguments"
        )
    return stands


def pages_of(calls: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(calls)
    while page := list(islice(rest, size)):
        yield page
