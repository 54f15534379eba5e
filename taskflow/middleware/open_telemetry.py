"""OpenTelemetry: makes spans of sends, runs and attempts of steps, one tree in whatever processes they happen. Rule S13.2.

The spans of a run hang under one span of the whole run, which is made when the run ends, by the process that ends it: so no span
stays open over a sleep. Its id derives from the run's id, like those of the attempts of steps, so that processes that never meet
agree on it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflow.event import Event
from taskflow.headers import NO_HEADERS, find_header_problem
from taskflow.middleware.base import Middleware
from taskflow.middleware.facts import Activation, Attempt, Outcome

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Tracer
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Decision
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
    )
except ImportError as error:
    raise ImportError(
        "taskflow.OpenTelemetry needs the SDK of OpenTelemetry: pip install 'taskflow-durable[otel]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = "taskflow.open_telemetry"

chosen_span_id: ContextVar[int] = ContextVar("chosen_span_id", default=0)
chosen_trace_id: ContextVar[int] = ContextVar("chosen_trace_id", default=0)


class ChosenIds(IdGenerator):
    """Gives the ids that were chosen for the present span, and random ones to all others."""

    def __init__(self, others: IdGenerator) -> None:
        self.others = others

    def generate_span_id(self) -> int:
        return chosen_span_id.get() or self.others.generate_span_id()

    def generate_trace_id(self) -> int:
        return chosen_trace_id.get() or self.others.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        return not chosen_trace_id.get() and self.others.is_trace_id_random()


class RunTrace(NamedTuple):
    """Where the spans of a run belong, worked out anew in each activation. `began_ns` is when that began.

    A run that the sampler leaves out has none, and what is not sampled is not made: that is most of them in production.
    """

    sender: Context
    run: Context
    trace_id: int
    is_sampled: bool
    links: list[Link]
    began_ns: int


class OpenTelemetry(Middleware):
    """Makes spans of sends, runs and attempts of steps, and carries the trace from one to the other. Rule S13.2.

        app = TaskFlow("shop", middleware=[OpenTelemetry()])

    The spans go to `tracer_provider`, by default to the one of the process, once that is set: a TracerProvider of the SDK, whose
    sampler decides. Without one no span is made, and a trace goes on through the headers of runs all the same.
    The context travels in headers, as the propagators of the process write it, by default `traceparent` and `baggage`.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._provider = tracer_provider
        self._tracer: Tracer | None = None

    # --- out of this process ---

    async def wrap_send(
        self, events: Sequence[Event], send: Callable[[Sequence[Event]], Awaitable[list[str]]]
    ) -> list[str]:
        tracer = self._find_tracer()
        if tracer is None:
            return await send([replace(event, headers=carried(event.headers)) for event in events])
        names = {event.name for event in events}
        what = names.pop() if len(names) == 1 else "events"
        with tracer.start_as_current_span(
            f"send {what}", kind=SpanKind.PRODUCER, attributes=messaging("send", what)
        ) as span:
            ids = await send([replace(event, headers=carried(event.headers)) for event in events])
            if len(ids) == 1:
                span.set_attribute("messaging.message.id", ids[0])
            else:
                span.set_attribute("messaging.batch.message_count", len(ids))
            return ids

    def transform_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return carried(headers)

    # --- a run ---

    async def wrap_run(self, run: Activation, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        tracer = self._find_tracer()
        if tracer is None:
            with in_context(propagate.extract(run.headers, Context())):
                return await call()
        where = run.state[STATE] = trace_of(tracer, run)
        if not where.is_sampled:
            with in_context(where.run):
                return await call()
        if run.queue_wait_ms is not None:
            self._queue_wait(tracer, run, where)
        span = tracer.start_span(f"activation {run.function_id}", where.run, attributes=facts_of(run))
        try:
            # The present span is that of the run, and not this one, which a crash loses with all that would hang under it.
            with in_context(where.run):
                outcome = await call()
            tell(span, outcome)
            return outcome
        finally:
            span.end()

    def _queue_wait(self, tracer: Tracer, run: Activation, where: RunTrace) -> None:
        assert run.queue_wait_ms is not None
        start_ns = where.began_ns - run.queue_wait_ms * 1_000_000
        with chosen(span_id_of(run.run_id, "queue"), where.trace_id):
            span = tracer.start_span(f"queue {run.function_id}", where.sender, start_time=start_ns)
        span.end(where.began_ns)

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        tracer, where = self._find_tracer(), run.state.get(STATE)
        if tracer is None or where is None or not where.is_sampled:
            return
        with chosen(span_id_of(run.run_id), where.trace_id):
            span = tracer.start_span(
                f"run {run.function_id}", where.sender, SpanKind.CONSUMER, run_attributes(run), where.links,
                start_time=where.began_ns - (run.claimed_ms - run.started_ms) * 1_000_000,
            )  # fmt: skip
        tell(span, outcome)
        span.end()

    async def wrap_attempt(self, attempt: Attempt, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        tracer, run = self._find_tracer(), attempt.run
        where: RunTrace | None = run.state.get(STATE)
        if tracer is None or where is None or not where.is_sampled or attempt.is_handler:
            return await call()
        attributes: dict[str, Any] = {
            "taskflow.run_id": run.run_id,
            "taskflow.step_id": attempt.step_id,
            "taskflow.step_key": attempt.step_key,
            "taskflow.attempt": attempt.number,
        }
        with chosen(span_id_of(run.run_id, attempt.step_key, str(attempt.number))):
            span = tracer.start_span(f"step {attempt.step_id}", attributes=attributes)
        try:
            with in_context(trace.set_span_in_context(span)):
                outcome = await call()
            tell(span, outcome)
            return outcome
        finally:
            span.end()

    def _find_tracer(self) -> Tracer | None:
        """The tracer, or None while the process has no provider of the SDK."""
        if self._tracer is None:
            provider = self._provider or trace.get_tracer_provider()
            tracer = provider.get_tracer("taskflow")
            if not isinstance(tracer, Tracer):
                return None
            # This tracer is ours alone: `get_tracer` makes one at each call.
            tracer.id_generator = ChosenIds(tracer.id_generator)
            self._tracer = tracer
        return self._tracer


def carried(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """The present context, and the headers, which beat it where the sender wrote them himself. Baggage without room is left out."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    merged = {**carrier, **(headers or NO_HEADERS)}
    if "baggage" in carrier and find_header_problem(merged):
        merged.pop("baggage")
    return merged


def trace_of(tracer: Tracer, run: Activation) -> RunTrace:
    """Where the spans of the run belong: in the trace of the sender, or in one that derives from the run's id."""
    sender = propagate.extract(run.headers, Context())
    parent = trace.get_current_span(sender).get_span_context()
    links = links_of(run, parent) if len(run.events) > 1 else []
    trace_id = parent.trace_id if parent.is_valid else id_of(16, run.run_id)
    sampled = tracer.sampler.should_sample(
        sender, trace_id, f"run {run.function_id}", SpanKind.CONSUMER, run_attributes(run), links
    )
    is_sampled = sampled.decision is Decision.RECORD_AND_SAMPLE
    flags = (parent.trace_flags & ~TraceFlags.SAMPLED) | (TraceFlags.SAMPLED if is_sampled else 0)
    own = SpanContext(trace_id, span_id_of(run.run_id), True, TraceFlags(flags), sampled.trace_state)
    present = trace.set_span_in_context(NonRecordingSpan(own), sender)
    return RunTrace(sender, present, trace_id, is_sampled, links, time.time_ns())


def links_of(run: Activation, parent: SpanContext) -> list[Link]:
    """Links to the senders of the other events of a batch."""
    senders = [span_context_of(event.headers) for event in run.events[1:]]
    return [Link(sender) for sender in senders if sender.is_valid and sender != parent]


def span_context_of(headers: Mapping[str, str]) -> SpanContext:
    return trace.get_current_span(propagate.extract(headers, Context())).get_span_context()


def id_of(size: int, *parts: str) -> int:
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=size).digest()) or 1


def span_id_of(*parts: str) -> int:
    return id_of(8, *parts)


@contextmanager
def chosen(span_id: int, trace_id: int = 0) -> Iterator[None]:
    """The span that is made in the block gets these ids."""
    span_token, trace_token = chosen_span_id.set(span_id), chosen_trace_id.set(trace_id)
    try:
        yield
    finally:
        chosen_span_id.reset(span_token)
        chosen_trace_id.reset(trace_token)


@contextmanager
def in_context(present: Context) -> Iterator[None]:
    token = context.attach(present)
    try:
        yield
    finally:
        context.detach(token)


def tell(span: Span, outcome: Outcome) -> None:
    """Write into the span how it ended."""
    span.set_attribute("taskflow.status", outcome.status)
    if outcome.error is not None:
        span.record_exception(outcome.error)
        span.set_status(Status(StatusCode.ERROR, f"{type(outcome.error).__name__}: {outcome.error}"))


def messaging(operation: str, destination: str) -> dict[str, str]:
    return {
        "messaging.system": "taskflow",
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def run_attributes(run: Activation) -> dict[str, Any]:
    return {
        **messaging("process", run.event.name),
        "messaging.message.id": run.event.id,
        "taskflow.run_id": run.run_id,
        "taskflow.function_id": run.function_id,
    }


def facts_of(run: Activation) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "taskflow.run_id": run.run_id,
        "taskflow.worker": run.worker,
        "taskflow.attempt": run.attempt,
    }
    return {**facts, "taskflow.offered_step": run.offered_step} if run.offered_step else facts
