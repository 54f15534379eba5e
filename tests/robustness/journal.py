"""What was executed, by the file that the steps write, against what the store says was committed.

Every step returns the token of its execution, so a memo names the one execution that was committed. From the moment that
execution ended, nothing may start the step again: its process held the claim then, since otherwise its commit would have been
refused, and whoever gets the claim later finds the memo. One clock (CLOCK_MONOTONIC) serves all processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import redis

from taskflow.store.keys import Keys
from taskflow.store.operation import DONE, Operation
from taskflow.store.records import TEXT_FIELDS, add_defaults, event_text, event_uid

EXPECTED_STEPS = {
    "robust/five": {"one", "two", "three", "four", "five"},
    "robust/limited": {"one", "two"},
    "robust/held": {"before", "gate", "after"},
    "robust/blocking": {"one", "two"},
    "robust/frozen": {"freeze"},
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file; `what` is start, end or seen."""

    run_id: str
    step: str
    attempt: int
    pid: int
    at_ns: int
    what: str
    token: str


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as the store has it."""

    run_id: str
    fields: dict[str, bytes]
    steps: dict[str, Operation]

    @property
    def status(self) -> str:
        return self.fields.get("status", b"missing").decode()

    @property
    def function(self) -> str:
        return self.fields.get("function", b"").decode()


class Journal:
    """The file of a test's executions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(
        self, *, what: str | None = None, step: str | None = None, run_id: str | None = None
    ) -> list[Line]:
        """The lines so far, in order; only those asked for."""
        text = self.path.read_text() if self.path.exists() else ""
        found = [read_line(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [
            line
            for line in found
            if what in (None, line.what) and step in (None, line.step) and run_id in (None, line.run_id)
        ]

    def busy_pids(self) -> set[int]:
        """Processes that have begun a step and not ended it; they may be dead."""
        lines = self.lines()
        ended = {line.token for line in lines if line.what == "end"}
        return {line.pid for line in lines if line.what == "start" and line.token not in ended}

    def repeats(self) -> int:
        """How many executions were repetitions of a step: allowed, but each must have had a reason."""
        starts = Counter((line.run_id, line.step) for line in self.lines(what="start"))
        return sum(starts.values()) - len(starts)

    def check(self, runs: Iterable[StoredRun], *, allow_repeats: bool = True) -> None:
        """Raise AssertionError with all that is wrong, by run. With `allow_repeats=False`, every step started once."""
        by_step: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in self.lines():
            by_step[line.run_id, line.step].append(line)
        problems: list[str] = []
        for run in runs:
            found = find_problems(run, by_step, allow_repeats=allow_repeats)
            problems += [f"run {run.run_id} ({run.function}): {problem}" for problem in found]
        assert not problems, "\n".join(problems[:40])


def read_line(line: str) -> Line:
    run_id, step, attempt, pid, at_ns, what, token = line.split()
    return Line(run_id, step, int(attempt), int(pid), int(at_ns), what, token)


def find_problems(
    run: StoredRun, by_step: Mapping[tuple[str, str], list[Line]], *, allow_repeats: bool
) -> list[str]:
    """What is wrong with one run."""
    if run.status != "completed":
        error = run.fields.get("error", run.fields.get("last_error", b"")).decode()
        return [f"is {run.status}, not completed {error}".rstrip()]
    output: dict[str, str] = orjson.loads(run.fields["output"])
    problems = []
    expected = EXPECTED_STEPS.get(run.function, set(output))
    if set(output) != expected:
        problems.append(f"its output has the steps {sorted(output)}, expected {sorted(expected)}")
    if run.fields.get("attempt", b"0") != b"0":
        problems.append(
            f"the handler's attempt is {run.fields['attempt'].decode()}: a lost process was counted"
        )
    for step, token in output.items():
        problems += find_step_problems(
            step, token, run.steps.get(step), by_step.get((run.run_id, step), []), allow_repeats=allow_repeats
        )
    return problems


def find_step_problems(
    step: str, token: str, memo: Operation | None, lines: list[Line], *, allow_repeats: bool
) -> list[str]:
    if memo is None or memo.state != DONE or memo.data is None:
        return [f"step {step!r} has no memo"]
    problems = []
    committed: str = orjson.loads(memo.data)
    if memo.attempts:
        problems.append(f"step {step!r} counts attempts: {memo.attempts}")
    if committed != token:
        problems.append(
            f"step {step!r}: the memo is of execution {committed}, but the handler returned {token}"
        )
    for line in lines:
        if line.attempt != 0:
            problems.append(f"step {step!r} was called in attempt {line.attempt} of the handler")
        if line.what == "seen" and line.token != committed:
            problems.append(
                f"step {step!r}: process {line.pid} saw {line.token}, but {committed} is committed"
            )
    ends = [line.at_ns for line in lines if line.what == "end" and line.token == committed]
    if len(ends) != 1:
        return [*problems, f"step {step!r}: the committed execution ended {len(ends)} times"]
    late = [line for line in lines if line.what == "start" and line.at_ns > ends[0]]
    for line in late:
        after_ms = (line.at_ns - ends[0]) / 1e6
        problems.append(
            f"step {step!r} was executed again by process {line.pid}, {after_ms:.1f} ms after its commit"
        )
    starts = sum(line.what == "start" for line in lines)
    if not allow_repeats and starts != 1:
        problems.append(f"step {step!r} was started {starts} times")
    return problems


def read_runs(client: redis.Redis, keys: Keys, run_ids: Iterable[str]) -> list[StoredRun]:
    """The runs with their events and memos, in two round trips."""
    ids = list(run_ids)
    pipeline = client.pipeline(transaction=False)
    for run_id in ids:
        pipeline.hgetall(keys.run(run_id))
        pipeline.hgetall(keys.steps(run_id))
    replies = pipeline.execute()
    runs = [
        StoredRun(
            run_id,
            {name.decode(): value for name, value in fields.items()},
            {name.decode(): Operation.unpack(packed) for name, packed in steps.items()},
        )
        for run_id, fields, steps in zip(ids, replies[::2], replies[1::2], strict=True)
    ]
    for run in runs:
        add_defaults(run.fields)
    # The others refer to the record of their event.
    bare = [run for run in runs if run.fields and "event" not in run.fields]
    uids = [event_uid(run.run_id, run.fields.get("uid")) for run in bare]
    for uid in uids:
        pipeline.hmget(keys.event(uid), TEXT_FIELDS)
    for run, uid, values in zip(bare, uids, pipeline.execute(), strict=True):
        if (text := event_text(uid, values)) is not None:
            run.fields["event"] = text
    return runs
