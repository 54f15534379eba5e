"""Shows a run on a page: its facts, its steps as a timeline, what it waits for, how it ended. For `taskflow runs show`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from itertools import groupby
from typing import Any, TypeAlias

import orjson

from taskflow.codecs.codecs import Unread
from taskflow.run import AttemptView, RunStatus, RunView, StepView
from taskflow.terminal.canvas_tree import canvas_section
from taskflow.terminal.folding import FoldedSteps, cut, folded
from taskflow.terminal.screen import Cell, Line, Span, aligned, cell_width, glyph, plain
from taskflow.terminal.timeline import Kind, Stretch, bar, bounds, stretches
from taskflow.types import JsonObject
from taskflow.values.durations import format_duration
from taskflow.values.text import short
from taskflow.values.times import date_and_time, relative

MIN_BAR, MAX_BAR = 12, 40
MAX_KEY_CHARS = 40
INDENT = "  "
Steps: TypeAlias = Sequence[StepView | FoldedSteps]
DOT = "  ·  "
# Frames between the worker and the user's code, which don't help the user.
OWN_FRAME = re.compile(
    r'  File ".*[/\\](?:taskflow[/\\](?:engine|testing)|concurrent[/\\]futures|asyncio)[/\\]\w+\.py"'
)


def run_page(
    run: RunView, *, now_ms: int, width: int, zone: tzinfo | None = None, is_whole: bool = False,
    how_to_see: str = "--all shows it",
) -> list[Line]:  # fmt: skip
    """The lines of the page, for a screen of `width` columns.

    Unless `is_whole`, many similar steps are folded and large texts are cut; a mark says `how_to_see` the rest.
    """
    steps = list(folded(run.steps.values(), is_whole=is_whole))
    return [
        *heading(run, now_ms),
        *facts(run, now_ms, zone),
        *attempts_section(run),
        *canvas_section(run, INDENT),
        *steps_section(run, steps, now_ms, width),
        *crashes_section(run),
        *outcome_section(run, is_whole=is_whole, how_to_see=how_to_see),
    ]


def heading(run: RunView, now_ms: int) -> Iterator[Line]:
    sign, style = glyph(run.status)
    took_ms = run.duration_ms(now_ms)
    took = f" in {format_duration(took_ms)}" if run.is_final and took_ms is not None else ""
    yield [(f"{sign} ", style), (run.function, "bold"), (DOT, "dim"), (f"{run.status}{took}", style)]
    if run.why is not None:
        yield [(f"{INDENT}{run.why}", style if style != "dim" else "")]
    yield []


def facts(run: RunView, now_ms: int, zone: tzinfo | None) -> Iterator[Line]:
    rows = [(name, value) for name, value in fact_rows(run, now_ms, zone) if value]
    yield from aligned([[plain(name, "dim"), plain(value)] for name, value in rows], indent=INDENT)


def fact_rows(run: RunView, now_ms: int, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    yield "run", run.run_id
    yield run.cause or "event", event_text(run)
    if run.rerun_of:
        yield "rerun of", f"run {run.rerun_of}" + (f", by replay {run.replay_id}" if run.replay_id else "")
    if run.rerun_by:
        yield "rerun by", f"run {run.rerun_by}"
    if run.parent:
        yield "parent", f"run {run.parent}, step {run.parent_step}"
    yield "created", f"{date_and_time(run.created_ms, zone)} ({relative(run.created_ms, now_ms=now_ms)})"
    if run.started_ms is not None and run.started_ms - run.created_ms >= 1_000:
        yield "started", f"{format_duration(run.started_ms - run.created_ms)} later"
    headers = run.event.get("headers") or {}
    yield "headers", short(" ".join(f"{name}={value}" for name, value in headers.items()), 200)
    yield "queue", run.queue if run.queue != "default" else ""
    yield "version", run.version
    yield "progress", progress_text(run.progress)
    yield "attempt", f"{run.attempt + 1}" if run.attempt else ""
    for reason in run.empty_keys:
        yield "key", reason


def progress_text(progress: JsonObject | None) -> str:
    """The last report of a task: "3 of 10 (30 %), file=a.csv"."""
    if progress is None:
        return ""
    done, total = progress.get("done"), progress.get("total")
    more = [f"{name}={value}" for name, value in progress.items() if name not in ("done", "total")]
    shown = f"{done}"
    if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total:
        shown = f"{done} of {total} ({done / total:.0%})"
    return short(", ".join([shown, *more]), 120)


def event_text(run: RunView) -> str:
    """The event's name, id and data, shortened; for an invocation only the data, as its name is always the same."""
    event = run.event
    more = f"and {run.batched - 1} more" if run.batched > 1 else ""
    data = orjson.dumps(event.get("data") or {}).decode()
    public_id = event.get("id") if event.get("id") != event.get("uid") else None
    if run.cause == "invoke":
        return short(data, 80)
    return " ".join(
        filter(None, [event.get("name", ""), public_id, short(data, 80) if data != "{}" else "", more])
    )


def steps_section(run: RunView, steps: Steps, now_ms: int, width: int) -> Iterator[Line]:
    if not steps:
        return
    rows = list(timeline_rows(run, steps, now_ms, bar_width(run, steps, now_ms, width)))
    lines = aligned([cells for cells, _ in rows], right=(3, 4), indent=INDENT)
    yield []
    for line, (cells, notes) in zip(lines, rows, strict=True):
        if cells:
            yield line
        for note in notes:
            yield [(INDENT * 3, ""), *note]


def bar_width(run: RunView, steps: Steps, now_ms: int, width: int) -> int:
    """The width that the other columns leave for the bars, within limits."""
    cells = aligned([cells for cells, _ in timeline_rows(run, steps, now_ms, 0)], indent=INDENT)
    taken = max(cell_width(line) for line in cells)
    return min(max(width - taken, MIN_BAR), MAX_BAR)


def timeline_rows(
    run: RunView, steps: Steps, now_ms: int, bar_columns: int
) -> Iterator[tuple[list[Cell], list[Line]]]:
    """The cells of each step, and the lines below it: why the step waits, and its failed attempts."""
    begin_ms, end_ms = bounds(run, now_ms)
    yield [
        plain("  step", "dim"), plain(""), plain(" " * bar_columns), plain("start", "dim"), plain("took", "dim"),
        plain("tries" if any(step.attempts > 1 for step in run.steps.values()) else "", "dim"),
    ], []  # fmt: skip
    for step in steps:
        if isinstance(step, FoldedSteps):
            # As a note and not as a cell, which would widen the column of the ids.
            yield [], [[(str(step), "dim")]]
            continue
        sign, style = glyph(step.state)
        took_ms = duration_ms(step, now_ms)
        yield [
            [(f"{sign} ", style), (short(step.key, MAX_KEY_CHARS), "")], plain(step.kind, "dim"),
            bar([] if step.is_kept else stretches(step, end_ms), begin_ms, end_ms, bar_columns),
            plain(start_text(step, begin_ms), "dim"),
            plain("given up", "dim") if step.state == "dropped" else plain(format_duration(took_ms) if took_ms is not None else ""),
            plain(step.attempts if step.attempts > 1 else "", "warn"),
        ], list(notes(step, style, run.why))  # fmt: skip
    if run.status == "running":
        yield executing_row(run, now_ms, bar_columns), []


def start_text(step: StepView, begin_ms: int) -> str:
    """When the step started, measured from the start of the run."""
    if step.is_kept:
        return "kept"  # its result comes from an earlier run
    return "" if step.started_ms is None else f"+{format_duration(max(step.started_ms - begin_ms, 0))}"


def executing_row(run: RunView, now_ms: int, bar_columns: int) -> list[Cell]:
    """The row of a step that executes now. It has no name, since a step is stored only when it ends."""
    begin_ms, end_ms = bounds(run, now_ms)
    since_ms = max([begin_ms, *(step.ended_ms for step in run.steps.values() if step.ended_ms is not None)])
    sign, style = glyph("running")
    now_executing = [Stretch(Kind.NOW, since_ms, end_ms)]
    return [
        [(f"{sign} ", style), ("executing", style)], plain(""), bar(now_executing, begin_ms, end_ms, bar_columns),
        plain(f"+{format_duration(since_ms - begin_ms)}", "dim"), plain(format_duration(max(now_ms - since_ms, 0))),
    ]  # fmt: skip


def duration_ms(step: StepView, now_ms: int) -> int | None:
    """How long the step took, its retries included, or has taken so far."""
    if step.started_ms is None or step.state == "dropped":
        return None
    return max((step.ended_ms if step.ended_ms is not None else now_ms) - step.started_ms, 0)


def notes(step: StepView, style: str, said: str | None) -> Iterator[Line]:
    """The notes below the line of a step; `said` was already said of the run, and is not repeated."""
    if step.input is not None:
        yield [("input  ", "dim"), (input_text(step.input), "")]
    if step.why is not None and step.why != said:
        yield [(step.why, style)]
    yield from attempt_lines(step.failed_attempts)
    if step.error is not None and not step.failed_attempts:
        yield [(str(step.error), "bad")]
    if step.child is not None and step.why is None:
        yield [(f"run {step.child}", "dim")]


def input_text(given: Any) -> str:
    """The arguments of a step as in a call, short: `"A7", 2, express=true`."""
    if isinstance(given, Unread):
        return given
    texts = [orjson.dumps(value).decode() for value in given["args"]]
    texts += [f"{name}={orjson.dumps(value).decode()}" for name, value in given["kwargs"].items()]
    return short(", ".join(texts), 200)


def attempt_lines(attempts: Sequence[AttemptView]) -> Iterator[Line]:
    """The failed attempts; attempts in a row with the same error share a line."""
    for error, group in groupby(enumerate(attempts, 1), key=lambda item: str(item[1].error)):
        rows = list(group)
        first, last = rows[0][0], rows[-1][0]
        numbers = f"attempt {first}" if first == last else f"attempts {first}-{last}"
        yield [(f"{numbers}  ", "dim"), (error, "bad")]


def attempts_section(run: RunView) -> Iterator[Line]:
    """The failed attempts of the code outside of steps; the one that ended the run is shown at the top of the page."""
    if not run.failed_attempts or (run.status == "failed" and len(run.failed_attempts) == 1):
        return
    yield []
    for line in attempt_lines(run.failed_attempts):
        yield [(INDENT, ""), *line]


def crashes_section(run: RunView) -> Iterator[Line]:
    """The deaths of worker processes under the run since its last progress. Rule S9.8."""
    if not run.crashes:
        return
    yield []
    for number, cause in enumerate(run.crashes, 1):
        yield [(f"{INDENT}crash {number}  ", "dim"), (f"its worker process ended: {cause}", "warn")]


def outcome_section(run: RunView, *, is_whole: bool, how_to_see: str) -> Iterator[Line]:
    if run.output is not None:
        yield []
        yield [(f"{INDENT}output", "dim")]
        text = orjson.dumps(run.output, option=orjson.OPT_INDENT_2).decode()
        lines = [run.output] if isinstance(run.output, Unread) else text.split("\n")
        for line in cut(lines, is_whole=is_whole, how_to_see=how_to_see):
            yield [(f"{INDENT}{INDENT}{line}", "")]
    shown = run.error if run.status == "failed" else None
    if not run.is_final and run.last_error is not None:
        shown = run.last_error
    if shown is not None and shown.stack:
        yield []
        yield [(f"{INDENT}{'error' if run.is_final else 'last error'}", "dim")]
        for line in cut(list(users_frames(shown.stack)), is_whole=is_whole, how_to_see=how_to_see):
            yield [(f"{INDENT}{INDENT}{line}", stack_style(line))]


def users_frames(stack: str) -> Iterator[str]:
    """The lines of a traceback without the engine's own frames."""
    is_own = False
    for line in stack.rstrip().splitlines():
        if line.startswith("  File "):
            is_own = OWN_FRAME.match(line) is not None
        elif not line.startswith("    "):
            is_own = False
        if not is_own:
            yield line


def stack_style(line: str) -> str:
    return "dim" if line.startswith((" ", "Traceback")) else "bad"


def list_row(run: RunView, now_ms: int) -> list[Cell]:
    """A run as a row of `taskflow runs list`."""
    sign: Span = glyph(run.status)
    # A run that is queued again after a wait has started before, but executes nothing now.
    took_ms = None if run.status == RunStatus.QUEUED else run.duration_ms(now_ms)
    return [
        plain(run.run_id), plain(run.function, "bold"), [sign, (f" {run.status}", sign[1])],
        plain(relative(run.created_ms, now_ms=now_ms), "dim"), plain(format_duration(took_ms) if took_ms is not None else "–"),
        plain(run.why or "", "bad" if run.status == "failed" else ""),
    ]  # fmt: skip


LIST_HEADER = ("run", "function", "status", "created", "took", "why")
