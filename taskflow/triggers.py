"""TriggerEvent and TriggerCron, which start a function. Rules S2.2 and S2.3."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from datetime import tzinfo
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import orjson

from taskflow.errors import ConfigError, InvalidDuration, SerializationError
from taskflow.event import MAX_NAME_CHARS
from taskflow.event_type import EventType, TypedEvent, name_and_type
from taskflow.expressions.cel import compile_expression
from taskflow.headers import Headers, find_header_problem
from taskflow.types import Duration, JsonObject
from taskflow.values.durations import parse_duration_ms
from taskflow.values.manifest import in_code_only
from taskflow.values.record import record
from taskflow.values.stored import dump

MAX_TRIGGERS = 10
MAX_CRON_CHARS = 200
MAX_CRON_DATA_BYTES = 64 * 1024  # it stands in the manifest of the function
CRON_DATA = ("cron", "scheduled_at")  # what the event of each tick has in any case
CRON_HOW = (
    "Write five fields (minute, hour, day of month, month, day of week) as in '30 9 * * mon-fri', or six "
    "with the second first; 'TZ=Europe/Berlin ' in front sets the time zone, which is UTC otherwise."
)
# croniter's hashed and random values: H, R, H/5, R(0-30).
RANDOM_PART = re.compile(r"(?:^|[\s,])[hr](?=[\s,(/]|$)", re.IGNORECASE)
CRON_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@record
class TriggerEvent:
    """Start a run for each event of this name for which `expression` is true. Rule S2.2.

        TriggerEvent("shop/order.*", expression="event.data.total > 100")
        TriggerEvent(OrderCreated, expression="event.data.total > 100")

    `event` is a name of 1-256 characters, which may end in `*`, or an EventModel (S11.2). `expression` is CEL over `event`. Raises
    ConfigError.
    """

    event: str
    expression: str | None = None
    kind: EventType | None = in_code_only(None)

    def __init__(self, event: str | type[TypedEvent], expression: str | None = None) -> None:
        name, kind = name_and_type(event)
        check_event_name(name, what="trigger event")
        if expression is not None:
            compile_expression(expression, what=f"expression of the trigger {name!r}")
        object.__setattr__(self, "event", name)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "kind", kind)

    @property
    def is_pattern(self) -> bool:
        """Whether the name ends in `*`, and so stands for many names."""
        return self.event.endswith("*")


Catchup: TypeAlias = Literal["latest", "none", "all"]


@record
class TriggerCron:
    """Start the function at each tick of `cron`, up to `jitter` later. Rule S2.3.

    `cron` has five fields, or six with the *second first*, and may begin with "TZ=Area/City "; without that
    it is UTC. `jitter` is a duration. `catchup` says what to fire for ticks that nothing could fire for
    more than 10 s, whatever the cause: the "latest" of them, "none", or "all" (at most 1,000). Rule S8.1.
    `data` is a JSON object, which the event of each tick has beside `cron` and `scheduled_at`. `headers` are those of its runs
    (S11.1). Raises ConfigError.

        TriggerCron("TZ=Europe/Berlin 0 6 * * mon-fri", data={"report": "sales"})
    """

    cron: str
    jitter: Duration | None = field(default=None, compare=False)
    catchup: Catchup = "latest"
    data: JsonObject | None = field(default=None, hash=False)
    headers: Headers | None = field(default=None, hash=False)
    jitter_ms: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parse_cron(self.cron)
        if self.catchup not in get_args(Catchup):
            raise ConfigError(
                f"trigger cron {self.cron!r}: catchup is {self.catchup!r}, but must be one of {get_args(Catchup)}"
            )
        try:
            jitter_ms = 0 if self.jitter is None else parse_duration_ms(self.jitter, what="trigger jitter")
        except InvalidDuration as error:
            raise ConfigError(f"trigger cron {self.cron!r}: {error}") from error
        if self.headers is not None and (problem := find_header_problem(self.headers)):
            raise ConfigError(f"trigger cron {self.cron!r}: {problem}")
        if self.data is not None:
            object.__setattr__(self, "data", checked_data(self.cron, self.data))
        object.__setattr__(self, "jitter_ms", jitter_ms)


def checked_data(cron: str, data: object) -> JsonObject:
    """The data of a cron's events as the JSON object that they get. Raises ConfigError."""
    where = f"trigger cron {cron!r}: data"
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a JSON object (dict), got {type(data).__name__}")
    for name in CRON_DATA:
        if name in data:
            raise ConfigError(f"{where} has {name!r}, which each tick sets itself; choose another name")
    try:
        text = dump(data, what=where)
    except SerializationError as error:
        raise ConfigError(str(error)) from error
    if len(text) > MAX_CRON_DATA_BYTES:
        raise ConfigError(
            f"{where} has {len(text):,} bytes of JSON, but at most {MAX_CRON_DATA_BYTES:,} are allowed"
        )
    checked: JsonObject = orjson.loads(text)
    return checked


Trigger: TypeAlias = TriggerEvent | TriggerCron


AnyTrigger: TypeAlias = str | type[TypedEvent] | Trigger


def parse_triggers(value: AnyTrigger | Sequence[AnyTrigger] | None) -> tuple[Trigger, ...]:
    """Read the option `trigger`: an event name, an EventModel, a trigger, or a list of up to 10 of them; None means no trigger.

    Raises ConfigError. Rule S2.2.
    """
    if value is None:
        return ()
    if isinstance(value, (str, type, TriggerEvent, TriggerCron)):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(
            "trigger must be an event name, EventModel, TriggerEvent, TriggerCron or a list of them, "
            f"got {type(value).__name__}"
        )
    if len(value) > MAX_TRIGGERS:
        raise ConfigError(
            f"trigger holds at most {MAX_TRIGGERS} triggers, got {len(value)}; an event name may end in '*'"
        )
    triggers = tuple(parse_trigger(trigger) for trigger in value)
    for index, trigger in enumerate(triggers):
        if trigger in triggers[:index]:
            raise ConfigError(f"trigger names {trigger!r} twice; remove one")
    crons = [trigger.cron for trigger in triggers if isinstance(trigger, TriggerCron)]
    for cron in crons:
        if crons.count(cron) > 1:
            raise ConfigError(
                f"trigger names the cron {cron!r} twice, but a tick starts one run; remove one, or make another function of it"
            )
    return triggers


def parse_trigger(value: object) -> Trigger:
    if isinstance(value, (TriggerEvent, TriggerCron)):
        return value
    if isinstance(value, str) or (isinstance(value, type) and issubclass(value, TypedEvent)):
        return TriggerEvent(value)
    raise ConfigError(
        f"a trigger must be an event name, EventModel, TriggerEvent or TriggerCron, got {type(value).__name__}"
    )


def check_event_name(name: object, *, what: str) -> None:
    """Raise ConfigError unless `name` is the name of an event, or a beginning of names followed by `*`."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} must be the name of an event, got {type(name).__name__}")
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise ConfigError(
            f"{what} must have 1 to {MAX_NAME_CHARS} characters, got {len(name)}: {name[:40]!r}"
        )
    if "*" in name[:-1]:
        raise ConfigError(
            f"{what} may have a '*' only at its end, got {name!r}; use an expression to pick events"
        )


@record
class CronSchedule:
    """A cron string that was read: its five or six `fields`, and the time zone in which they count."""

    fields: str
    has_seconds: bool
    zone: tzinfo


def parse_cron(cron: str) -> CronSchedule:
    """Read a cron string. Raises ConfigError if it is wrong, or names a day that never comes. Rule S2.3."""
    if not isinstance(cron, str) or not 1 <= len(cron) <= MAX_CRON_CHARS:
        raise ConfigError(
            f"trigger cron must be a str of 1 to {MAX_CRON_CHARS} characters, got {cron!r:.60}. {CRON_HOW}"
        )
    return parse_cron_text(cron)


@lru_cache(maxsize=1024)
def parse_cron_text(cron: str) -> CronSchedule:
    zone_name, fields = split_zone(cron.strip())
    alias = CRON_ALIASES.get(fields.lower())
    if alias is not None:
        raise ConfigError(f"trigger cron {cron!r}: for {fields} write {alias!r}")
    count = len(fields.split())
    if count not in (5, 6):
        raise ConfigError(f"trigger cron {cron!r} has {count} fields. {CRON_HOW}")
    check_cron_fields(cron, fields)
    return CronSchedule(" ".join(fields.split()), count == 6, find_zone(cron, zone_name))


def split_zone(cron: str) -> tuple[str, str]:
    """The name of the time zone, and the fields."""
    if not cron.startswith("TZ="):
        return "UTC", cron
    zone_name, _, fields = cron.removeprefix("TZ=").partition(" ")
    return zone_name, fields.strip()


def find_zone(cron: str, zone_name: str) -> tzinfo:
    # Only functions with a cron need it.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(zone_name)
    except (KeyError, ValueError, OSError) as error:  # unknown, no name of a zone, or the name of a folder
        raise ConfigError(
            f"trigger cron {cron!r}: there is no time zone {zone_name!r}; write it like 'TZ=Europe/Berlin ', "
            "and install the package tzdata if this machine has no time zones"
        ) from error


def check_cron_fields(cron: str, fields: str) -> None:
    # croniter takes 60 ms to import, which only apps with crons pay.
    from croniter import CroniterBadDateError, CroniterError, croniter

    if RANDOM_PART.search(fields):
        raise ConfigError(
            f"trigger cron {cron!r}: H and R would differ from process to process; use jitter instead"
        )
    try:
        croniter(fields, 0.0, second_at_beginning=True).get_next(float)
    except CroniterBadDateError as error:
        raise ConfigError(f"trigger cron {cron!r} never comes: there is no such day. {CRON_HOW}") from error
    except (CroniterError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"trigger cron {cron!r} can't be read: {error}. {CRON_HOW}") from error
