"""S13.2: spans of sends, runs and attempts of steps, in one tree, whatever processes they happen in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from taskflow import (
    Batch,
    BlockingStep,
    Context,
    Event,
    NonRetriableError,
    OpenTelemetry,
    Retries,
    Step,
    TaskFlow,
)
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")


class Spans:
    """A provider, and what it has exported."""

    def __init__(self, **options: object) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)  # type: ignore[arg-type]
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def tree(self) -> set[tuple[str, str]]:
        """Each span's name, and that of its parent; empty for a parent that there is not."""
        names = {span.context.span_id: span.name for span in self.all}
        return {(span.name, names.get(span.parent.span_id, "") if span.parent else "") for span in self.all}


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def app(make_app: MakeApp, spans: Spans) -> TaskFlow:
    return make_app(middleware=[OpenTelemetry(spans.provider)])


async def test_a_run_is_one_tree_under_its_send_over_a_sleep_a_retry_and_an_invoke(
    app: TaskFlow, spans: Spans
) -> None:
    tries = 0

    def charge() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("the line is down")

    @app.function()
    async def receipt(ctx: Context, step: Step) -> str:
        return await step.run("print", lambda: "receipt")

    @app.function(trigger="shop/order", retries=Retries(attempts=2, initial="1m"))
    async def fulfil(ctx: Context, step: Step) -> str:
        await step.run("charge", charge)
        await step.sleep("a day", "1d")
        return await step.invoke("receipt", function=receipt)

    async with Harness(app) as harness:
        with spans.tracer.start_as_current_span("request"):
            await harness.send("shop/order")
        await harness.settled()
        await harness.advance(days=2)

    run = f"run {fulfil.spec.id}"
    assert spans.tree() == {
        ("request", ""),
        ("send shop/order", "request"),
        (f"queue {fulfil.spec.id}", "send shop/order"),
        (run, "send shop/order"),
        (f"activation {fulfil.spec.id}", run),
        ("step charge", run),
        (f"queue {receipt.spec.id}", run),
        (f"run {receipt.spec.id}", run),
        (f"activation {receipt.spec.id}", f"run {receipt.spec.id}"),
        ("step print", f"run {receipt.spec.id}"),
    }
    assert len({span.context.trace_id for span in spans.all}) == 1
    assert len({span.context.span_id for span in spans.all}) == len(spans.all)
    assert len(spans.named(run)) == 1
    failed, completed = spans.named("step charge")
    assert failed.status.status_code is StatusCode.ERROR and failed.events[0].name == "exception"
    assert failed.status.description == "OSError: the line is down"
    assert (failed.attributes or {})["taskflow.attempt"] == 0
    assert (completed.attributes or {})["taskflow.attempt"] == 1 and completed.status.is_ok
    statuses = [
        (span.attributes or {})["taskflow.status"] for span in spans.named(f"activation {fulfil.spec.id}")
    ]
    assert statuses[:-1] == ["suspended"] * (len(statuses) - 1) and statuses[-1] == "completed"
    assert spans.one(run).kind is SpanKind.CONSUMER and spans.one("send shop/order").kind is SpanKind.PRODUCER


async def test_a_run_without_a_sender_has_a_trace_that_all_its_activations_know(
    app: TaskFlow, spans: Spans
) -> None:
    @app.function()
    async def lonely(ctx: Context, step: Step) -> None:
        await step.run("before", lambda: None)
        await step.sleep("a day", "1d")
        await step.run("after", lambda: None)

    async with Harness(app) as harness:
        await harness.start(lonely)
        await harness.advance(days=2)
    run = spans.one(f"run {lonely.spec.id}")
    assert run.parent is None
    assert {span.context.trace_id for span in spans.all} == {run.context.trace_id}
    assert ("step before", run.name) in spans.tree() and ("step after", run.name) in spans.tree()
    started_ns, ended_ns = run.start_time or 0, run.end_time or 0
    assert ended_ns - started_ns > 86_000 * 10**9


@pytest.mark.parametrize("is_async", [True, False])
async def test_spans_of_user_code_nest(app: TaskFlow, spans: Spans, is_async: bool) -> None:
    def pay() -> None:
        with spans.tracer.start_as_current_span("http"):
            pass

    async def pay_later() -> None:
        await asyncio.sleep(0)
        pay()

    if is_async:

        @app.function(id="works")
        async def works(ctx: Context, step: Step) -> None:
            pay()
            await asyncio.gather(step.run("one", pay_later), step.run("two", pay))

    else:

        @app.function(id="works")
        def blocking_works(ctx: Context, step: BlockingStep) -> None:
            pay()
            step.run("one", pay_later)
            step.run("two", pay)

    async with Harness(app) as harness:
        await harness.start(app.functions[f"{app.id}/works"])
        await harness.settled()
    run = f"run {app.id}/works"
    expected = {
        ("http", run),
        ("http", "step one"),
        ("http", "step two"),
        ("step one", run),
        ("step two", run),
    }
    assert expected <= spans.tree()


async def test_what_a_step_sends_and_calls_hangs_under_that_step(app: TaskFlow, spans: Spans) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    @app.function(trigger="shop/paid")
    async def paid(ctx: Context, step: Step) -> None: ...

    @app.function()
    async def works(ctx: Context, step: Step) -> None:
        async def call() -> None:
            await add.adelay(1, 2)

        await step.send_event("tell", Event("shop/paid"))
        await step.run("call", call)

    async with Harness(app) as harness:
        await harness.start(works)
        await harness.settled()
    tree = spans.tree()
    assert {("send shop/paid", "step tell"), (f"run {paid.spec.id}", "send shop/paid")} <= tree
    assert (f"run {add.spec.id}", "step call") in tree


async def test_a_run_that_fails_has_its_error(app: TaskFlow, spans: Spans) -> None:
    @app.function()
    async def fails(ctx: Context, step: Step) -> None:
        raise NonRetriableError("no such customer")

    async with Harness(app) as harness:
        await harness.start(fails)
        await harness.settled()
    run = spans.one(f"run {fails.spec.id}")
    assert run.status.status_code is StatusCode.ERROR
    assert run.status.description == "NonRetriableError: no such customer"
    assert (run.attributes or {})["taskflow.status"] == "failed"


async def test_the_other_events_of_a_batch_are_links(app: TaskFlow, spans: Spans) -> None:
    @app.function(trigger="shop/order", batch_events=Batch(max_size=2, timeout="1m"))
    async def fulfil(ctx: Context, step: Step) -> None: ...

    async with Harness(app) as harness:
        await harness.send("shop/order")
        await harness.send("shop/order")
        await harness.settled()
    run = spans.one(f"run {fulfil.spec.id}")
    first, second = spans.named("send shop/order")
    assert run.parent is not None and run.parent.span_id == first.context.span_id
    assert [link.context.span_id for link in run.links] == [second.context.span_id]


async def test_what_the_sampler_leaves_out_is_left_out_everywhere(make_app: MakeApp) -> None:
    spans = Spans(sampler=ParentBased(ALWAYS_OFF))
    app = make_app(middleware=[OpenTelemetry(spans.provider)])
    seen: list[Any] = []

    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context, step: Step) -> None:
        await step.run("look", lambda: seen.append(trace.get_current_span().get_span_context()))
        seen.append(trace.get_current_span().get_span_context())
        seen.append(ctx.headers["traceparent"])

    async with Harness(app) as harness:
        await harness.send("shop/order")
        await harness.settled()
    assert spans.all == []
    step, run, header = seen
    assert step.trace_id == run.trace_id and header.split("-")[1] == f"{run.trace_id:032x}"
    assert not step.trace_flags.sampled and not run.trace_flags.sampled
    assert not int(header.split("-")[3], 16) & 1


async def test_without_a_provider_a_trace_goes_on_through_the_headers(make_app: MakeApp) -> None:
    app = make_app(middleware=[OpenTelemetry(trace.NoOpTracerProvider())])
    spans = Spans()
    seen: list[Any] = []

    @app.function()
    async def child(ctx: Context, step: Step) -> None:
        seen.append((trace.get_current_span().get_span_context().span_id, baggage.get_baggage("tenant")))

    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context, step: Step) -> None:
        await step.invoke("child", function=child)

    async with Harness(app) as harness:
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        with spans.tracer.start_as_current_span("request") as request:
            await harness.send("shop/order")
        context.detach(token)
        await harness.settled()
    assert seen == [(request.get_span_context().span_id, "acme")]


async def test_baggage_without_room_is_left_out_and_the_event_is_sent(app: TaskFlow, spans: Spans) -> None:
    seen: list[Any] = []

    @app.function(trigger="shop/order")
    async def fulfil(ctx: Context, step: Step) -> None:
        seen.append(dict(ctx.headers))

    async with Harness(app) as harness:
        token = context.attach(baggage.set_baggage("long", "x" * 4000))
        await harness.send("shop/order", headers={"tenant": "y" * 5000})
        context.detach(token)
        await harness.settled()
    assert seen[0].keys() == {"tenant", "traceparent"}
