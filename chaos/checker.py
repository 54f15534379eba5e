"""What must hold however much was struck. Each check is a pure function from the evidence to problems, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

import orjson

from chaos.evidence import Evidence, Execution, event_of, function_of, number_of
from chaos.functions import ADDED, APP_ID, STEPS
from chaos.limits import check_concurrency, check_throttle
from taskflow.store.operation import DONE, Operation
from taskflow.values.ids import run_id_for, time_span
from tests.robustness.journal import StoredRun

FUNCTIONS_OF = {
    "chaos/flow": ("flow", "echo"),
    "chaos/paid": (),
    "chaos/calm": (),  # debounced: see check_debounce
    **{f"chaos/{name}": (name,) for name in ("order", "report", "shaky", "limited", "paced", "blocking")},
}
CALM = f"{APP_ID}/calm"


def check(evidence: Evidence) -> list[str]:
    """All problems; none if all is well."""
    return [problem for each in CHECKS for problem in each(evidence)]


def check_completed(evidence: Evidence) -> Iterator[str]:
    """Every run is final, and, as no function gives up by itself, completed. Rule S9.2."""
    for run in evidence.runs:
        if run.status != "completed":
            error = run.fields.get("error", run.fields.get("last_error", b"")).decode(errors="replace")
            yield f"{name(run)} is {run.status}, not completed {error}".rstrip()


def check_routed(evidence: Evidence) -> Iterator[str]:
    """Each accepted event has its run of each function, and no event, accepted or refused, has two. Rules S1.1, S2.7, S9.1."""
    there = {run.run_id for run in evidence.runs}
    for sent in evidence.accepted:
        functions = FUNCTIONS_OF[sent.name]
        if (
            sent.name == "chaos/flow"
            and evidence.deployed_ms is not None
            and time_span(sent.uid)[0] > evidence.deployed_ms
        ):
            functions = (*functions, ADDED)
        for function in functions:
            if run_id_for(sent.uid, f"{APP_ID}/{function}") not in there:
                yield f"event {sent.uid} ({sent.name} {sent.data}) was accepted, but has no run of {function}"
        if not evidence.events.get(sent.uid):
            yield f"event {sent.uid} ({sent.name} {sent.data}) was accepted, but the store has no record of it"
    numbers = Counter((function_of(run), number_of(run)) for run in evidence.runs)
    known = {each.data["n"] for each in evidence.sent}
    for (function, number), count in numbers.items():
        if count > 1:
            yield f"event number {number} has {count} runs of {function}"
        if number not in known:
            yield f"a run of {function} is for event number {number}, which nobody has sent"


def check_invoked(evidence: Evidence) -> Iterator[str]:
    """Each report has started one helper, and the others have none. Rule S3.6."""
    children = Counter(
        run.steps["ask"].child for run in evidence.runs if function_of(run) == "report" and "ask" in run.steps
    )
    helpers = {run.run_id for run in evidence.runs if function_of(run) == "helper"}
    yield from (
        f"helper {run_id} was started, but no report waits for it" for run_id in helpers - children.keys()
    )
    yield from (f"helper {run_id} serves {count} reports" for run_id, count in children.items() if count > 1)


def check_steps(evidence: Evidence) -> Iterator[str]:
    """Each memo is of one execution, which every handler has seen, and after which none started. Rules S4.1, S9.4."""
    for run in evidence.runs:
        if run.status == "completed":
            yield from (f"{name(run)}: {problem}" for problem in step_problems(run, evidence))


def step_problems(run: StoredRun, evidence: Evidence) -> Iterator[str]:
    function = function_of(run)
    memos = {key: memo for key, memo in run.steps.items() if memo.kind == "step"}
    if memos.keys() != STEPS.get(function):
        yield f"has memos of {sorted(memos)}, expected {sorted(STEPS.get(function, ()))}"
    output = orjson.loads(run.fields.get("output", b"null"))
    for step, memo in memos.items():
        if memo.state != DONE or memo.data is None:
            yield f"step {step!r} is {memo.state}, though the run is completed"
            continue
        token: str = orjson.loads(memo.data)
        returned = output.get(step) if isinstance(output, dict) else output
        if returned != token:
            yield f"step {step!r}: {token} is committed, but the handler returned {returned}"
        strange = evidence.seen.get((run.run_id, step), set()) - {token}
        if strange:
            yield f"step {step!r}: {token} is committed, but handlers saw {strange}"
        yield from execution_problems(step, memo, token, evidence.by_step.get((run.run_id, step), []))


def execution_problems(step: str, memo: Operation, token: str, executions: list[Execution]) -> Iterator[str]:
    by_token = {each.token: each for each in executions}
    committed = by_token.get(token)
    if committed is None or committed.end_ns is None or committed.is_failed:
        yield f"step {step!r}: {token} is committed, but no execution has returned it"
        return
    for late in executions:
        if late.start_ns > committed.end_ns:
            after_ms = (late.start_ns - committed.end_ns) / 1e6
            yield f"step {step!r} was executed again by process {late.pid}, {after_ms:.1f} ms after its commit"
    # An attempt that was counted ends by raising its token; a process that died counts for nothing (S4.1).
    told = Counter(str(attempt[4]) for attempt in memo.attempts)
    for message, count in told.items():
        if count > 1 or message not in by_token or not by_token[message].is_failed:
            yield f"step {step!r} counts attempt {message!r} {count} times, and no or another execution has raised that"


def check_debounce(evidence: Evidence) -> Iterator[str]:
    """Each accepted event went to one run, whose event is the last of them. Rules S7.5, S9.1."""
    runs = {run.run_id: event_of(run) for run in evidence.runs if function_of(run) == "calm"}
    gathered: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for sent in evidence.accepted:
        if sent.name != "chaos/calm":
            continue
        record = evidence.events.get(sent.uid, {})
        run_id = run_named(record.get(f"fn:{CALM}", ""), runs)
        if run_id is None:
            yield f"debounced event {sent.uid} went to {record.get(f'fn:{CALM}')!r}, which is no run"
            continue
        gathered[run_id].append((orjson.loads(record["event"])["ts"], sent.uid))
        if runs[run_id]["data"]["key"] != sent.data["key"]:
            yield f"debounced event {sent.uid} of key {sent.data['key']} went to a run of another key: {runs[run_id]}"
    for run_id, events in gathered.items():
        # A refused event that was taken all the same may be later than all that were accepted.
        own = (runs[run_id]["ts"], runs[run_id]["uid"])
        if own < max(events):
            yield f"debounced run {run_id} has event {own}, but gathered the later {max(events)}"


def run_named(text: str, runs: Mapping[str, object]) -> str | None:
    """The run that an event's record names: alone, or in a sentence."""
    return next((word for word in text.split() if word in runs), None)


def check_nothing_left(evidence: Evidence) -> Iterator[str]:
    """Runs that have ended left nothing in any index. Rules S6.2, S7.10."""
    yield from (f"left behind: {entry}" for entry in evidence.left)


def name(run: StoredRun) -> str:
    return f"run {run.run_id} ({function_of(run)})"


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    check_completed,
    check_routed,
    check_invoked,
    check_steps,
    check_debounce,
    check_concurrency,
    check_throttle,
    check_nothing_left,
)
