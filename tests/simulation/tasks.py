"""Tasks and canvases: what they add to a workload, who calls them, and what is to come of each call. Rules S15.1 to S15.3."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from taskflow import Canvas, Retries, Run, Task, TaskContext, TaskFlow, chain, chord
from taskflow.errors import StoreUnavailable
from taskflow.tasks import canvas
from tests.simulation.actors import Actors, current_call, flow_options, sleep_until_ms
from tests.simulation.codecs import read
from tests.simulation.evidence import NEVER, Evidence, Execution
from tests.simulation.observation import StoredRun
from tests.simulation.run_checks import began_late
from tests.simulation.workload import BODY, FunctionPlan, Limits, Op, Plan, TaskCall

EACH, AT = 20, 15
WIDE = 4  # members of a group that is split

Shape = list[Any]
"""A piece of a canvas: ["add", x or None for the result before, y], ["chain", *links], or ["chord", on_error, *members]."""


def has_tasks(seed: int) -> bool:
    """By the seed's number, and not by chance: so those of which it is known that they find a bug keep their worlds."""
    return seed % EACH == AT


@contextmanager
def narrow_groups() -> Iterator[None]:
    """Groups are split that have as many members as those here."""
    widest, canvas.WIDEST = canvas.WIDEST, WIDE - 1
    try:
        yield
    finally:
        canvas.WIDEST = widest


# --- the plan ---


def with_tasks(plan: Plan, seed: int) -> Plan:
    """The plan, with two tasks, calls of them, and canvases."""
    draw = Random(f"tasks {seed}")
    functions = [
        FunctionPlan(
            name, "", (Op("work", BODY, ms=draw.choice([0, 5, 100, 700]), chance=draw.choice([0, 0, 0.1, 0.4])),),
            draw.choice([Limits(), Limits(), Limits(concurrency=((draw.randint(1, 3), True, "fn"),))]),
            retries=draw.choice([0, 1, 3]), kind="task",
        )
        for name in ("add", "total")
    ]  # fmt: skip
    functions += [
        FunctionPlan(name, "", (Op(name, name),), kind="canvas") for name in ("canvas", "canvas-cancelled")
    ]
    calls = tuple(draw_call(draw, number, plan.length_ms) for number in range(draw.randint(3, 12)))
    return replace(plan, functions=(*plan.functions, *functions), calls=calls)


def draw_call(draw: Random, number: int, length_ms: int) -> TaskCall:
    at_ms, kind = (
        draw.randrange(length_ms),
        draw.choice(["one", "known", "many", "canvas", "canvas", "canvas"]),
    )
    shapes: list[Shape] = [["add", number, 1]]
    options: dict[str, Any] = {}
    if kind == "known":
        # Some calls have the same id and the same arguments, which are those of the first.
        shapes, options["id"] = [["add", 7, 1]], f"known{draw.randint(0, 1)}"
    elif kind == "many":
        shapes = [["add", number, y] for y in range(draw.randint(2, 5))]
    elif kind == "canvas":
        shapes = [["chain", draw_shape(draw, 0, is_first=True), draw_shape(draw, 1, is_first=False)]]
    if kind in ("one", "canvas") and draw.random() < 0.3:
        options["countdown"] = draw.choice([0.05, 1, 4])
    if kind == "one" and draw.random() < 0.3:
        options["expires"] = 10
    return TaskCall(at_ms, number, kind, tuple(shapes), options)


def draw_shape(draw: Random, depth: int, *, is_first: bool) -> Shape:
    """A piece of a canvas that gives a number, and, if it is not the first, gets one."""
    kind = draw.choice(["add", "add", "chain", "chord"][: 4 if depth < 2 else 2])
    if kind == "chain":
        first = draw_shape(draw, depth + 1, is_first=is_first)
        return ["chain", first, *[draw_shape(draw, 2, is_first=False) for _ in range(draw.randint(1, 2))]]
    if kind == "chord":
        members = [
            draw_shape(draw, depth + 1, is_first=is_first) for _ in range(draw.randint(0, WIDE + 1) or 1)
        ]
        return ["chord", draw.choice(["wait", "collect", "stop"]), *members]
    return ["add", draw.randint(1, 9) if is_first else None, draw.randint(1, 9)]


# --- who carries it out ---


class TaskActors:
    """The tasks of the simulated app, and the process that calls them."""

    def __init__(self, actors: Actors, app: TaskFlow, plan: Plan) -> None:
        self.actors = actors
        plans = {function.name: function for function in plan.functions}
        self.add: Task[..., Any] = app.task(id="add", **options_of(plans["add"]))(
            self.code_of_add(plans["add"])
        )
        self.total: Task[..., Any] = app.task(id="total", **options_of(plans["total"]))(
            self.code_of_total(plans["total"])
        )

    def code_of_add(self, plan: FunctionPlan) -> Any:
        async def add(ctx: TaskContext, x: int, y: int, *, n: int, k: int) -> int:
            return await self.work(plan, ctx, n, x + y)

        return add

    def code_of_total(self, plan: FunctionPlan) -> Any:
        async def total(ctx: TaskContext, numbers: list[Any], *, n: int, k: int) -> int:
            return await self.work(plan, ctx, n, sum_of(numbers))

        return total

    async def work(self, plan: FunctionPlan, ctx: TaskContext, number: int, output: int) -> int:
        """What the body of a task does; its history is that of a handler and of a body without steps."""
        actors, context = self.actors, ctx._context
        assert context is not None, "a worker has called it"
        actors.live[ctx.id] = None
        actors.calls += 1
        current_call.set(actors.calls)
        actors.tell(
            "handler", run=ctx.id, call=actors.calls, fn=ctx.task, attempt=ctx.attempt, uids=[context.event.uid],
            headers=dict(ctx.headers), expected={"call": str(number)},
        )  # fmt: skip
        if number % 2:
            ctx.progress(1, 2)
        await actors.execute(plan.body[0], BODY, ctx.id)
        actors.tell("returned", run=ctx.id, call=current_call.get(), output=output)
        return output

    async def call_all(self, calls: Sequence[TaskCall]) -> None:
        for call in sorted(calls, key=lambda call: call.at_ms):
            await sleep_until_ms(self.actors.world, call.at_ms)
            try:
                runs = await self.call(call)
            except StoreUnavailable:
                self.actors.tell("not_called", number=call.number)
                continue
            for run in runs:
                self.actors.live[run.id] = None
            self.actors.tell("called", number=call.number, runs=[run.id for run in runs])

    async def call(self, call: TaskCall) -> list[Run[Any]]:
        about = {"n": call.number, "k": call.number % 2}
        options: Any = {**call.options, "headers": {"call": str(call.number)}}
        if call.kind == "canvas":
            return [await self.built(call.shapes[0], about).adelay(**options)]
        if "id" in options:
            # All that have the id say the same.
            about, options["headers"] = {"n": 0, "k": 0}, {"call": "0"}
        arguments = [{"x": x, "y": y, **about} for _, x, y in call.shapes]
        if call.kind == "many":
            return await self.add.options(**options).amany(arguments)
        return [await self.add.options(**options).adelay(**arguments[0])]

    def built(self, shape: Shape, about: dict[str, int]) -> Canvas[Any]:
        match shape:
            case ["add", None, y]:
                return self.add.s(y, **about)
            case ["add", x, y]:
                return self.add.s(x, y, **about)
            case ["chain", *links]:
                return chain(*[self.built(link, about) for link in links])
            case ["chord", on_error, *members]:
                return chord(
                    [self.built(member, about) for member in members],
                    self.total.s(**about),
                    on_error=on_error,
                )
        raise AssertionError(shape)


def options_of(plan: FunctionPlan) -> dict[str, Any]:
    retries = Retries(attempts=plan.retries, initial="500ms", maximum="4s")
    return {"retries": retries, **flow_options(plan.limits)}


def sum_of(numbers: Sequence[Any]) -> int:
    """Of those that came to something: a group that collects has objects in place of those that failed."""
    return sum(number for number in numbers if isinstance(number, int))


# --- checks ---


FAILED = (False, {"error": None})
"""A node that has come to nothing, and what stands for it where a group collects."""


class Broken(Exception):
    """A canvas did something else than its description says."""


class NotReached(Broken):
    """A call has no run."""


def calls_make_their_runs(evidence: Evidence) -> Iterator[str]:
    """Rule S15.2: what was returned is there; each call has its runs once, and those with one id have one run together."""
    calls = {call.number: call for call in evidence.plan.calls}
    by_id: defaultdict[str, set[str]] = defaultdict(set)
    for record in evidence.of("called"):
        call = calls[record["number"]]
        for run_id in record["runs"]:
            if run_id not in evidence.stored.runs:
                yield f"S15.2: call {call.number} has returned run {run_id} at {record.place}, and it is not there"
            if "id" in call.options:
                by_id[call.options["id"]].add(run_id)
    for call_id, runs in by_id.items():
        if len(runs) > 1:
            yield f"S15.2: calls with the id {call_id!r} have {len(runs)} runs"
    made: Counter[int] = Counter()
    for run in calls_of(evidence):
        if "chosen" not in run.fields:
            made[int(evidence.event_of(run)["headers"]["call"])] += 1
    for number, count in made.items():
        if count > len(calls[number].shapes):
            yield f"S15.2: call {number} has made {count} runs, of {len(calls[number].shapes)}"


def calls_of(evidence: Evidence) -> Iterator[StoredRun]:
    for name in ("add", "total", "canvas"):
        yield from (run for run in evidence.runs_of(name) if "parent" not in run.fields)


def nodes_have_one_run(evidence: Evidence) -> Iterator[str]:
    parents = Counter(run.fields.get("parent") for run in evidence.stored.runs.values())
    for run in evidence.runs_of("canvas"):
        for parent, count in parents.items():
            if parent and parent.startswith(run.id) and count > 1:
                yield f"S15.3: {count} runs are of the node {parent!r}"


def tasks_give_what_their_arguments_say(evidence: Evidence) -> Iterator[str]:
    for run in [*evidence.runs_of("add"), *evidence.runs_of("total")]:
        data = evidence.event_of(run)["data"]
        expected = data["x"] + data["y"] if "x" in data else sum_of(data["numbers"])
        if run.status == "completed" and read(run.fields["output"]) != expected:
            yield f"S15.1: run {run.id} with {data} gave {run.fields['output']}"


def canvases_do_what_they_say(evidence: Evidence) -> Iterator[str]:
    """Rule S15.3: each call got the results before it, and the whole came to what its calls came to."""
    for run in evidence.runs_of("canvas"):
        if run.status not in ("completed", "failed"):
            continue
        data = evidence.event_of(run)["data"]
        if data["canvas"].get("on_error") == "outcomes":
            continue  # a part of a wide group, which the whole judges
        try:
            has_come, output = outcome_of(evidence, run, data["canvas"], data.get("input"), "")
        except Broken as broken:
            yield f"S15.3: canvas {run.id}: {broken}"
            continue
        status = "completed" if has_come else "failed"
        if run.status != status or (has_come and read(run.fields["output"]) != output):
            yield f"S15.3: canvas {run.id} is {run.status} with {run.fields.get('output')}, expected {status} with {output}"


def outcome_of(
    evidence: Evidence, run: StoredRun, node: dict[str, Any], given: Any, path: str
) -> tuple[bool, Any]:
    """Whether a node has come to something, and to what, as the runs of its calls say. Raises Broken."""
    below = f"{path}." if path else ""
    if "chain" in node:
        for place, link in enumerate(node["chain"]):
            has_come, given = outcome_of(evidence, run, link, given, f"{below}{place}")
            if not has_come:
                return FAILED
        return True, given
    if "group" in node:
        outcomes = members_of(evidence, run, node, given, path)
        if node["on_error"] != "collect" and not all(has_come for has_come, _ in outcomes):
            return FAILED
        return True, [output for _, output in outcomes]
    child = child_of(evidence, run, f"{path}:{node['call'].partition('/')[2]}")
    expected = {**node["data"], **({node["takes"]: given} if "takes" in node else {})}
    data = evidence.event_of(child)["data"]
    if without_texts(data) != without_texts(expected):
        raise Broken(f"the call at {path} got {data}, expected {expected}")
    if child.status == "completed":
        return True, read(child.fields["output"])
    return FAILED


def members_of(
    evidence: Evidence, run: StoredRun, node: dict[str, Any], given: Any, path: str
) -> list[tuple[bool, Any]]:
    """The outcomes of the members of a group, which may be a part of each of several canvases."""
    members, outcomes, missing = node["group"], [], None
    for where, member, place in places_of(evidence, run, members, path):
        if where.status == "cancelled":
            outcomes.append(FAILED)
            continue
        try:
            outcomes.append(outcome_of(evidence, where, member, given, place))
        except NotReached as error:
            missing = error
    # With "stop", members end where they are when another one has failed.
    if missing is not None and (node["on_error"] != "stop" or all(has_come for has_come, _ in outcomes)):
        raise missing
    return outcomes


def places_of(
    evidence: Evidence, run: StoredRun, members: Sequence[dict[str, Any]], path: str
) -> Iterator[tuple[StoredRun, dict[str, Any], str]]:
    """Of each member of a group: the canvas that carries it out, and the place there."""
    if len(members) < WIDE:
        yield from (
            (run, each, f"{path}.{place}" if path else str(place)) for place, each in enumerate(members)
        )
        return
    for at in range(0, len(members), WIDE - 1):
        part = members[at : at + WIDE - 1]
        child = child_of(evidence, run, f"{path or 'group'}[{at}:{at + len(part)}]")
        yield from ((child, each, str(place)) for place, each in enumerate(part))


def child_of(evidence: Evidence, run: StoredRun, step_id: str) -> StoredRun:
    child = evidence.stored.runs.get(run.steps.get(step_id, {}).get("child", ""))
    if child is None:
        raise NotReached(f"there is no run of {step_id}")
    return child


def without_texts(value: Any) -> Any:
    """The value without what is told of members that failed."""
    if isinstance(value, dict):
        return {name: None if name == "error" else without_texts(each) for name, each in value.items()}
    return [without_texts(each) for each in value] if isinstance(value, list) else value


def cancelled_canvases_cancel_all(evidence: Evidence) -> Iterator[str]:
    """Rule S15.3: once for each; of what it had started nothing begins from then on."""
    told: defaultdict[str, list[int]] = defaultdict(list)
    for run in evidence.runs_of("canvas-cancelled"):
        if run.status == "completed":
            place = evidence.committed.get((run.id, BODY), NEVER)
            told[evidence.event_of(run)["data"]["run_id"]].append(place)
    started: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        started[execution.run].append(execution)
    for run in evidence.runs_of("canvas"):
        places = told[run.id]
        if len(places) != (run.status == "cancelled"):
            yield f"S15.3: canvas {run.id} is {run.status}, and {len(places)} runs have cancelled what it had started"
        for child in [str(step.get("child")) for step in run.steps.values()]:
            for execution in started[child]:
                if places and execution.start > places[0] and not began_late(execution):
                    yield f"S15.3: {child} began at {execution.start}, and its canvas {run.id} was cancelled at {places[0]}"


TASK_CHECKS = (
    calls_make_their_runs,
    nodes_have_one_run,
    tasks_give_what_their_arguments_say,
    canvases_do_what_they_say,
    cancelled_canvases_cancel_all,
)
