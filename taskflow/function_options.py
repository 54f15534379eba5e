"""FunctionOptions: the options of `@app.function`, and the spec that is made of them. Rules S2.1, S2.2, S2.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack, cast, get_args

from taskflow.config import MAX_SLUG_CHARS, Determinism, check_determinism, check_slug
from taskflow.errors import ConfigError
from taskflow.event_type import EventType, OnInvalid, TypedEvent, is_typed, type_of
from taskflow.flow.checks import period_ms
from taskflow.flow.options import FlowControl, FlowOptions
from taskflow.function import NO_TIMEOUTS, FunctionSpec
from taskflow.handler_shape import handler_shape
from taskflow.middleware.base import Middleware
from taskflow.retries import Exceptions, Retries
from taskflow.timeouts import Timeouts
from taskflow.triggers import AnyTrigger, Trigger, TriggerEvent, parse_triggers
from taskflow.types import Duration, Handler
from taskflow.values.durations import MAX_DURATION_MS
from taskflow.values.keywords import check_keywords

MAX_NAME_CHARS = 128


class FunctionOptions(FlowOptions, total=False):
    """The options of `@app.function`; None counts as left out. `FlowOptions` has those of flow control.

    trigger      what starts the function: the name of an event, an EventModel, a TriggerEvent, a TriggerCron, or a list of at most
                 10; without one the function can only be invoked (S2.2)
    events       further EventModels, that it waits for or sends: their schemas are registered too (S11.2)
    on_invalid   for an event that does not fit its model: "fail" the run, "skip" it, or "dead_letter" the event; by default "fail"
                 (S11.2)
    id           the id within the app; by default the handler's name with "-" for "_" (S2.1)
    name         the name for people; by default the id
    retries      number of attempts after the first one, for each step and for the code between the steps; or a Retries (S5.1); by
                 default the app's setting
    retry_on     an exception class, or a tuple: only after these another attempt is made; others end the step or run (S5.3)
    give_up_on   an exception class, or a tuple: after these no other attempt is made (S5.3)
    timeouts     how long a run and its steps may take: a Timeouts (S6.3)
    queue        the queue of its runs; only workers that serve it (`-Q`) execute them; by default "default" (S7.2)
    determinism  "strict" fails a run whose replay calls the steps in another order (S4.5); by default the app's setting
    keep         how long runs are kept after their end, a duration from 1 s to 366 days (S10.1); by default the app's retention
    keep_failed  how long failed runs are kept (S10.1); by default the app's failed_retention
    output_type  the type of the result, if the handler is not annotated with it (S11.3)
    middleware   a list of Middleware, inside that of the app (S11.4)
    on_failure   a handler that gets the event `taskflow/function.failed` when a run has failed (S5.5)
    """

    trigger: AnyTrigger | Sequence[AnyTrigger] | None
    events: Sequence[type[TypedEvent]] | None
    on_invalid: OnInvalid | None
    id: str | None
    name: str | None
    retries: int | Retries | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None
    timeouts: Timeouts | None
    queue: str | None
    determinism: Determinism | None
    keep: Duration | None
    keep_failed: Duration | None
    output_type: Any
    middleware: Sequence[Middleware] | None
    on_failure: Handler | None


def build_spec(handler: Handler, *, app_id: str, **options: Unpack[FunctionOptions]) -> FunctionSpec:
    """Make the spec of a function, and check all of its options. Rules S2.1, S2.2 and S2.5.

    Raises ConfigError, which names function, option, value and remedy, and TypeError for an option that does not exist.
    """
    check_keywords(options, FunctionOptions, what="@app.function()")
    check_slug(app_id, what="app_id")
    slug = options.get("id")
    slug = check_slug(default_slug(handler) if slug is None else slug, what="the id of a function")
    try:
        spec = checked_spec(handler, app_id, slug, options)
        if spec.timeouts.soft_ms or spec.timeouts.hard_ms:
            raise ConfigError(
                "timeouts.soft and timeouts.hard are for tasks; the limit of a function's steps is Timeouts(step=...)"
            )
        return spec
    except ConfigError as error:
        raise ConfigError(f"function {f'{app_id}/{slug}'!r}: {error}") from error


def checked_spec(handler: Handler, app_id: str, slug: str, options: FunctionOptions) -> FunctionSpec:
    handler_shape(handler, what="the handler")
    on_failure, name, timeouts = options.get("on_failure"), options.get("name"), options.get("timeouts")
    queue, determinism = options.get("queue"), options.get("determinism")
    if on_failure is not None:
        handler_shape(on_failure, what="on_failure")
    if name is not None and not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARS):
        raise ConfigError(f"name must be a str of 1 to {MAX_NAME_CHARS} characters, got {name!r:.80}")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise ConfigError(f"timeouts must be a Timeouts, got {timeouts!r:.80}; write Timeouts(finish='1h')")
    triggers = parse_triggers(options.get("trigger"))
    flow = {option: value for option, value in options.items() if option in FlowOptions.__optional_keys__}
    return FunctionSpec(
        app_id=app_id,
        slug=slug,
        name=slug if name is None else name,
        triggers=triggers,
        retries=Retries.of(
            options.get("retries"), retry_on=options.get("retry_on"), give_up_on=options.get("give_up_on")
        ),
        timeouts=NO_TIMEOUTS if timeouts is None else timeouts,
        queue="default" if queue is None else check_slug(queue, what="queue"),
        determinism="warn" if determinism is None else check_determinism(determinism, what="determinism"),
        flow=FlowControl.of(**cast(FlowOptions, flow)),
        event_types=known_types(triggers, options.get("events")),
        on_invalid=check_on_invalid(options.get("on_invalid")),
        keep_ms=kept_ms("keep", options.get("keep")),
        keep_failed_ms=kept_ms("keep_failed", options.get("keep_failed")),
    )


def known_types(
    triggers: Sequence[Trigger], others: Sequence[type[TypedEvent]] | None
) -> tuple[EventType, ...]:
    """The event types of the triggers and of the option `events`, each once. Raises ConfigError."""
    if others is not None and not (isinstance(others, (list, tuple)) and all(map(is_typed, others))):
        raise ConfigError(f"events must be a list of EventModels, got {others!r:.80}")
    kinds = [trigger.kind for trigger in triggers if isinstance(trigger, TriggerEvent) and trigger.kind]
    kinds += [type_of(kind) for kind in others or ()]
    return tuple(dict.fromkeys(kinds))


def check_on_invalid(value: OnInvalid | None) -> OnInvalid | None:
    if value is not None and value not in get_args(OnInvalid):
        raise ConfigError(f"on_invalid must be one of {get_args(OnInvalid)}, got {value!r:.80}")
    return value


def kept_ms(option: str, value: Duration | None) -> int | None:
    return None if value is None else period_ms(option, value, at_most_ms=MAX_DURATION_MS)


def default_slug(handler: Handler) -> str:
    name = getattr(handler, "__name__", "")
    slug = name.replace("_", "-").strip("-")[:MAX_SLUG_CHARS]
    if not name or name == "<lambda>" or not slug:
        raise ConfigError(
            f"a function's id comes from the handler's name, and {handler!r:.100} has none; pass id='...'"
        )
    return slug
