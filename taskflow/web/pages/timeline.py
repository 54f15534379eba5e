"""The timeline of a run: a row for each step, with a bar in SVG. Pure functions; times are ms since the epoch."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from taskflow.run import RunView, StepView
from taskflow.terminal.folding import FoldedSteps, folded
from taskflow.terminal.timeline import Kind, Stretch, bounds, stretches
from taskflow.values.durations import format_duration
from taskflow.values.record import record

NO_BAR = Markup("")
MIN_WIDTH = 0.4  # percent: a moment is seen too
MAX_TICKS = 4
LAST_TICK = 90  # percent: a text that begins behind it does not fit
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
# Between the marks of the axis; in a run of more than a year it is any number of days.
ROUND_MS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500,
    *(each * SECOND for each in (1, 2, 5, 10, 20, 30)), *(each * MINUTE for each in (1, 2, 5, 10, 20, 30)),
    *(each * HOUR for each in (1, 2, 6, 12)), *(each * DAY for each in (1, 2, 7, 30, 90)),
)  # fmt: skip
WORDS = {Kind.WAIT: "waits", Kind.WORK: "executes", Kind.NOW: "executes now", Kind.FAILED: "failed attempt"}


@record(kw_only=True)
class Row:
    """A row of the timeline: a step, several folded ones, or what executes now."""

    step: StepView | None = None
    note: str = ""
    bar: Markup = NO_BAR
    start: str = ""
    took: str = ""


def rows_of(run: RunView, now_ms: int, *, is_whole: bool) -> Iterator[Row]:
    """The rows of a run, in the order of its calls. Unless `is_whole`, of many similar steps only some are shown."""
    begin_ms, end_ms = bounds(run, now_ms)
    for step in folded(run.steps.values(), is_whole=is_whole):
        if isinstance(step, FoldedSteps):
            yield Row(note=str(step))
            continue
        started_ms = None if step.is_kept else step.started_ms
        until_ms = step.ended_ms if step.ended_ms is not None else now_ms
        yield Row(
            step=step,
            bar=bar([] if step.is_kept else stretches(step, end_ms), begin_ms, end_ms),
            start="" if started_ms is None else f"+{format_duration(max(started_ms - begin_ms, 0))}",
            took="" if started_ms is None or step.state == "dropped" else format_duration(max(until_ms - started_ms, 0)),
        )  # fmt: skip
    if run.status == "running":
        since_ms = max(
            [begin_ms, *(step.ended_ms for step in run.steps.values() if step.ended_ms is not None)]
        )
        yield Row(
            bar=bar([Stretch(Kind.NOW, since_ms, end_ms)], begin_ms, end_ms),
            start=f"+{format_duration(since_ms - begin_ms)}",
            took=format_duration(max(now_ms - since_ms, 0)),
        )


def bar(parts: list[Stretch], begin_ms: int, end_ms: int) -> Markup:
    """The bar of a step. Places are percents, so that it fits any width; the style sheet has the colours of kinds."""
    scale = 100 / max(end_ms - begin_ms, 1)
    drawn = Markup("").join(rect(part, (part.begin_ms - begin_ms) * scale, scale) for part in parts)
    told = ", ".join(f"{WORDS[part.kind]} {format_duration(part.end_ms - part.begin_ms)}" for part in parts)
    return Markup(
        '<svg class="bar" role="img" aria-label="{}" width="100%" height="18">{}</svg>'
    ).format(told or "nothing yet", drawn)  # fmt: skip


def rect(part: Stretch, left: float, scale: float) -> Markup:
    left = min(max(left, 0.0), 100 - MIN_WIDTH)
    width = min(max((part.end_ms - part.begin_ms) * scale, MIN_WIDTH), 100 - left)
    is_thin = part.kind is Kind.WAIT
    return Markup(
        '<rect class="{}" x="{:.3f}%" width="{:.3f}%" y="{}" height="{}" rx="{}"><title>{} {}</title></rect>'
    ).format(
        part.kind.name.lower(), left, width, 8 if is_thin else 3, 2 if is_thin else 12, 1 if is_thin else 3,
        WORDS[part.kind], format_duration(part.end_ms - part.begin_ms),
    )  # fmt: skip


def axis(run: RunView, now_ms: int) -> Markup:
    """The head of the column of bars: round times from the first start of the run on."""
    begin_ms, end_ms = bounds(run, now_ms)
    span_ms = end_ms - begin_ms
    marks = Markup("").join(
        Markup('<text x="{:.2f}%" y="12">{}</text>').format(at_ms * 100 / span_ms, format_duration(at_ms))
        for at_ms in range(0, span_ms * LAST_TICK // 100 + 1, tick_ms(span_ms))
    )
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="16">{}</svg>').format(marks)


def tick_ms(span_ms: int) -> int:
    """The time between two marks: round, and so long that the marks are few."""
    found = next((each for each in ROUND_MS if span_ms <= MAX_TICKS * each), None)
    return found or -(-span_ms // (MAX_TICKS * DAY)) * DAY
