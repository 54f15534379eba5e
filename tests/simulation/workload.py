"""Workload: functions, events and cancellations, generated from a seed as plain data, and the code that carries them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.simulation.oddities import ERRORS, PRINTABLE, TEXTS

KEYS = 3  # distinct values of data.k
BODY = "(body)"  # stands for the key of a step, for a function that has none
QUEUES = ("default", "slow")
BY_HAND = "sim/by-hand"  # the name of the event of a run that no event started
WIDTH, WIDE_CHANCE = (
    1_000,
    0.02,
)  # of steps side by side
SHORT_KEEP_S = 1_200  # longer than any simulation


@dataclass(frozen=True, slots=True)
class Op:
    """One piece of a handler.

    `kind` is step, sleep, wait, invoke, send, parallel, race, limit, fan, loop, fail, try, or work (in no step).
    """

    kind: str
    id: str = ""
    ms: int = 0  # of a step's work, a sleep, a wait's or invoke's timeout
    chance: float = 0.0  # of failing
    target: str = ""  # event or function
    branches: tuple[tuple[Op, ...], ...] = ()
    count: int = 0
    lookback_ms: int = 0
    error: str = "WorkFailed"  # what it raises when it fails, see `oddities`
    is_blocking: bool = False  # a step whose function is a `def`
    headers: tuple[tuple[str, str], ...] = ()  # of its own, of an invoke or a sent event


@dataclass(frozen=True, slots=True)
class Limits:
    """Flow control of a function, as numbers; key is True for data.k. 0 or "" is none."""

    concurrency: tuple[tuple[int, bool, str], ...] = ()  # limit, by key, scope
    throttle: tuple[int, int, int, bool] | None = None  # limit, period in s, burst, by key
    rate: tuple[int, int, bool] | None = None  # limit, period in s, by key
    debounce: tuple[int, int, bool] | None = None  # period in s, timeout in s or 0, by key
    batch: tuple[int, int, bool] | None = None  # size, timeout in s, by key
    singleton: str = ""  # mode; always by key
    has_priority: bool = False  # of data.p seconds
    idempotency: bool = False  # by data.k


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """A function of the simulated app."""

    name: str
    event: str  # that triggers it; "" when it can only be invoked
    body: tuple[Op, ...]
    limits: Limits = field(default_factory=Limits)
    retries: int = 2
    start_timeout_s: int = 0
    finish_timeout_s: int = 0
    step_timeout_ms: int = 0
    releases: tuple[int, ...] = (1, 2)  # of the code that has it, when a deploy rolls
    event_in_new: str = ""  # that triggers it in the second release, when that is another one
    body_in_new: tuple[Op, ...] = ()  # in the second release, when that is another one
    cron: str = ""
    queue: str = "default"
    keep_s: int = 0  # 0: as the app does
    keep_failed_s: int = 0
    on_invalid: str = ""  # "" unless its events have a type, see `typed`
    kind: str = (
        "function"  # or task; or canvas: one of those that carry out canvases, whose code is the engine's
    )

    @property
    def given_up_ids(self) -> set[str]:
        """The ids of what may be given up: in a branch of a race, or within a time limit of user code."""
        return self.ids_within("race", "limit")

    @property
    def changed_ids(self) -> set[str]:
        """The ids by which the second release calls other tools than the first: what is stored of them does not last."""
        new = dict(kinds_in(self.body_in_new))
        return {id for id, kind in kinds_in(self.body) if new.get(id, kind) != kind}

    def ids_within(self, *kinds: str) -> set[str]:
        ops = [op for op in self.body if op.kind in kinds]
        return {inner.id for op in ops for branch in op.branches for inner in branch}


def kinds_in(ops: Sequence[Op]) -> Iterator[tuple[str, str]]:
    for op in ops:
        yield op.id, op.kind
        for branch in op.branches:
            yield from kinds_in(branch)


@dataclass(frozen=True, slots=True)
class Sending:
    """Events of one call of `send`."""

    at_ms: int  # since the simulation's start
    events: tuple[dict[str, Any], ...]  # name, data, and perhaps headers, id and delay_ms


@dataclass(frozen=True, slots=True)
class TaskCall:
    """One call of a task, many at once, or a canvas; see `tasks`."""

    at_ms: int  # since the simulation's start
    number: int
    kind: str  # one, known, many, canvas
    shapes: tuple[list[Any], ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a workload."""

    functions: tuple[FunctionPlan, ...]
    sendings: tuple[Sending, ...]
    cancels_ms: tuple[int, ...]  # when to cancel some live run
    pauses: tuple[tuple[int, int, str], ...]  # of queues: from, to (ms), which
    starts: tuple[tuple[int, str, str], ...]  # of runs by hand: when (ms), function, queue
    keys: tuple[Any, ...]  # the values of data.k
    names: tuple[str, ...]  # of the two events that start functions
    length_ms: int
    is_rolling: bool = False  # two releases of the code execute side by side
    empties: bool = False  # the store loses all of its data once
    calls: tuple[TaskCall, ...] = ()  # of tasks

    @property
    def has_bodies(self) -> bool:
        return any(function.body[0].id == BODY for function in self.functions)


class Generator:
    """Draws a plan. What came later draws from `later`, so that seeds without it keep their histories."""

    def __init__(self, random: Random, later: Random) -> None:
        self.random = random
        self.later = later
        self.ids = 0
        self.keys: tuple[Any, ...] = tuple(range(KEYS))
        if random.random() < 0.3:
            self.keys = tuple(random.sample(TEXTS, KEYS))
        odd = random.random() < 0.2
        self.names = [f"sim/{name}{random.choice(TEXTS[1:]) if odd else ''}" for name in "ab"]
        self.release = f"sim/release{random.choice(TEXTS) if odd else ''}"  # ends waits of its key
        self.is_odd = random.random() < 0.3

    def plan(self) -> Plan:
        random = self.random
        names = [f"f{number}" for number in range(random.randint(1, 4))]
        callee = FunctionPlan(
            "callee", "", tuple(self.ops(random.randint(1, 2), depth=1, can_invoke=False)), self.limits(True)
        )
        functions = [callee, *[self.function(name) for name in names]]
        length_ms = random.choice([3_000, 8_000, 15_000])
        sendings = self.sendings([function.event for function in functions if function.event], length_ms)
        cancels = tuple(random.randrange(length_ms * 2) for _ in range(random.choice([0, 0, 1, 3])))
        bodies = self.bodies([function.event for function in functions if function.event])
        pauses = tuple(self.pause(length_ms) for _ in range(random.choice([0, 0, 0, 1, 2])))
        starts = tuple(
            (random.randrange(length_ms), random.choice(functions).name, random.choice(QUEUES))
            for _ in range(random.choice([0, 0, 1, 3]))
        )
        functions[1] = self.with_limit(functions[1])
        if self.later.random() < WIDE_CHANCE:
            functions.append(FunctionPlan("wide", "", (Op("fan", "step-wide", count=WIDTH),)))
            starts = (*starts, (self.later.randrange(length_ms), "wide", QUEUES[0]))
        return Plan(
            (*functions, *bodies),
            tuple(sendings),
            cancels,
            pauses,
            starts,
            self.keys,
            tuple(self.names),
            length_ms,
        )

    def pause(self, length_ms: int) -> tuple[int, int, str]:
        from_ms = self.random.randrange(length_ms)
        return from_ms, from_ms + self.random.choice([200, 2_000, 6_000]), self.random.choice(QUEUES)

    # --- functions ---

    def function(self, name: str) -> FunctionPlan:
        random = self.random
        limits = self.limits(False)
        return FunctionPlan(
            name,
            random.choice(self.names),
            tuple(self.ops(random.randint(1, 4), depth=0, can_invoke=True)),
            limits,
            retries=random.choice([0, 1, 3]),
            start_timeout_s=random.choice([0, 0, 0, 0, 20]),
            finish_timeout_s=random.choice([0, 0, 0, 0, 15]),
            step_timeout_ms=random.choice([0, 0, 0, 200]),
            queue=random.choice(["default", "default", "default", "slow"]),
            keep_s=random.choice([0, 0, SHORT_KEEP_S]),
            keep_failed_s=random.choice([0, 0, SHORT_KEEP_S]),
        )

    def with_limit(self, function: FunctionPlan) -> FunctionPlan:
        """In some worlds, the function with one of its steps, sleeps or waits in an `asyncio.timeout` of user code."""
        random = self.later
        ops = [op for op in function.body if op.kind in ("step", "sleep", "wait", "invoke")]
        if not ops or random.random() > 0.3:
            return function
        limited = random.choice(ops)
        limit = Op("limit", f"limit-{limited.id}", ms=random.choice([10, 150, 1_000]), branches=((limited,),))
        return replace(function, body=tuple(limit if op is limited else op for op in function.body))

    def bodies(self, events: Sequence[str]) -> list[FunctionPlan]:
        """Functions without steps, which work for a while."""
        random = self.later
        if random.random() > 0.3:
            return []
        return [
            FunctionPlan(
                f"body{number}",
                random.choice(events),
                (Op("work", BODY, ms=random.choice([5, 100, 700, 2_500, 4_000]), chance=random.choice([0, 0, 0.3])),),
                random.choice([Limits(), Limits(), Limits(concurrency=((random.randint(1, 3), True, "fn"),))]),
                retries=random.choice([0, 1, 3]),
                step_timeout_ms=random.choice([0, 0, 0, 1_500]),
            )
            for number in range(random.randint(1, 2))
        ]  # fmt: skip

    def limits(self, is_callee: bool) -> Limits:
        random = self.random
        kind = random.choice(
            ["none", "none", "concurrency", "concurrency", "two", "shared", "throttle", "priority"]
            + ([] if is_callee else ["rate", "debounce", "batch", "skip", "cancel", "idempotency", "both"])
        )
        by_key = random.random() < 0.5
        match kind:
            case "concurrency":
                return Limits(
                    concurrency=((random.randint(1, 2), by_key, "fn"),), has_priority=random.random() < 0.3
                )
            case "two":
                return Limits(
                    concurrency=((random.randint(1, 2), True, "fn"), (random.randint(1, 3), False, "fn"))
                )
            case "shared":
                return Limits(concurrency=((2, True, "app"),))
            case "throttle":
                return Limits(
                    throttle=(random.randint(1, 4), random.choice([1, 3]), random.randint(1, 2), by_key)
                )
            case "both":
                return Limits(concurrency=((1, by_key, "fn"),), throttle=(2, 1, 1, by_key))
            case "priority":
                return Limits(has_priority=True)
            case "rate":
                return Limits(rate=(random.randint(1, 3), random.choice([1, 4]), by_key))
            case "debounce":
                return Limits(debounce=(random.randint(1, 2), random.choice([0, 3]), by_key))
            case "batch":
                return Limits(batch=(random.randint(2, 5), random.randint(1, 3), by_key))
            case "skip" | "cancel":
                return Limits(singleton=kind)
            case "idempotency":
                return Limits(idempotency=True)
        return Limits()

    def ops(self, count: int, *, depth: int, can_invoke: bool) -> list[Op]:
        return [self.op(depth=depth, can_invoke=can_invoke) for _ in range(count)]

    def op(self, *, depth: int, can_invoke: bool) -> Op:
        random = self.random
        kinds = ["step"] * 6 + ["sleep", "wait", "loop", "fail", "send"]
        if can_invoke:
            kinds += ["invoke", "invoke"]
        if depth == 0:
            kinds += ["parallel", "parallel", "race", "try"]
        kind = random.choice(kinds)
        self.ids += 1
        id = f"{kind}{self.ids}{random.choice(PRINTABLE) if self.is_odd else ''}"
        match kind:
            case "step":
                is_blocking = random.random() < 0.15
                ms = 0 if is_blocking else self.work_ms()
                chance = random.choice([0, 0, 0, 0.3, 0.6])
                return Op(kind, id, ms, chance, error=self.error(is_blocking), is_blocking=is_blocking)
            case "loop":
                return Op(kind, id, ms=self.work_ms(), count=random.randint(2, 3))
            case "sleep":
                return Op(kind, id, ms=random.choice([0, 30, 500, 2_000, 6_000]))
            case "wait":
                return Op(
                    kind,
                    id,
                    ms=random.choice([500, 3_000, 9_000]),
                    target=self.release,
                    lookback_ms=random.choice([0, 0, 2_000]),
                )
            case "invoke":
                return Op(kind, id, ms=random.choice([0, 0, 8_000]), target="callee", headers=self.headers())
            case "send":
                return Op(kind, id, target=self.release, headers=self.headers())
            case "fail":
                return Op(kind, id, chance=random.choice([0.2, 0.7]), error=self.error(False))
            case _:
                inner = random.randint(2, 4)
                branches = tuple(
                    tuple(self.ops(random.randint(1, 2), depth=1, can_invoke=can_invoke))
                    for _ in range(1 if kind == "try" else inner)
                )
                return Op(kind, id, branches=branches)

    def work_ms(self) -> int:
        return self.random.choice([0, 0, 1, 5, 20, 100, 300, 1_500])

    def error(self, is_blocking: bool) -> str:
        """A coroutine can't raise StopIteration: Python makes another error of it."""
        names = [name for name in ERRORS if is_blocking or name != "StopIteration"]
        return self.random.choice(names) if self.random.random() < 0.5 else "WorkFailed"

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Of some events; each has the same names, so that one's own meet inherited ones."""
        names = [name for name in ("tenant", "trace") if self.random.random() < 0.2]
        return tuple((name, self.random.choice(TEXTS)) for name in names)

    # --- events ---

    def sendings(self, names: Sequence[str], length_ms: int) -> list[Sending]:
        random = self.random
        number = 0
        sendings = []
        explicit = [f"id-{number}{random.choice(TEXTS) if self.is_odd else ''}" for number in range(2)]
        for _ in range(random.randint(2, 16)):
            at_ms = random.randrange(length_ms)
            events = []
            for _ in range(random.choice([1, 1, 1, 2, 6])):
                number += 1
                name = self.release if random.random() < 0.2 else random.choice(names)
                data = {"n": number, "k": random.choice(self.keys), "p": random.choice([-5, 0, 0, 0, 3])}
                event: dict[str, Any] = {"name": name, "data": data}
                if headers := dict(self.headers()):
                    event["headers"] = data["h"] = headers
                if random.random() < 0.05:
                    event["id"] = random.choice(explicit)
                elif random.random() < 0.06:
                    event["delay_ms"] = random.randint(100, 5_000)
                events.append(event)
            sendings.append(Sending(at_ms, tuple(events)))
        sendings.sort(key=lambda sending: sending.at_ms)
        return sendings
