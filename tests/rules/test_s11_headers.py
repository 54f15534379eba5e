"""S11.1: headers travel with an event and with all that comes of it."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from taskflow import (
    Batch,
    Context,
    Debounce,
    Event,
    InvalidEvent,
    NonRetriableError,
    ReceivedEvent,
    RunFailed,
    Step,
    TaskFlow,
    TriggerCron,
    TriggerEvent,
)
from taskflow.errors import ConfigError
from taskflow.event import decode_message, encode_events
from taskflow.headers import MAX_HEADER_BYTES, Headers
from taskflow.testing import Harness

pytestmark = pytest.mark.usefixtures("no_bugs")

ACME = {"tenant": "acme", "traceparent": "00-1-2-03"}


def listen(app: TaskFlow, event: str) -> list[dict[str, str]]:
    """The headers of the runs that the event starts."""
    seen: list[dict[str, str]] = []

    @app.function(trigger=event, id=f"listen-{event.replace('/', '-').replace('.', '-')}")
    async def listener(ctx: Context[Step]) -> None:
        seen.append(dict(ctx.headers))

    return seen


async def test_a_run_has_the_headers_of_its_event(app: TaskFlow) -> None:
    seen = listen(app, "paid")
    async with Harness(app) as harness:
        await harness.send("paid", headers=ACME)
        await harness.send([Event("paid", headers={"tenant": "b"}), Event("paid")])
        await app.asend("paid", headers={"tenant": "c"})
        await harness.settled()
    assert seen == [ACME, {"tenant": "b"}, {}, {"tenant": "c"}]


async def test_what_a_run_sends_inherits_its_headers_and_its_own_beat_them(app: TaskFlow) -> None:
    plain, own = listen(app, "plain"), listen(app, "own")

    @app.function(trigger="paid")
    async def ship(ctx: Context[Step], step: Step) -> None:
        await step.sleep("wait", "1h")
        await step.send_event("tell", [Event("plain"), Event("own", headers={"tenant": "b", "by": "ship"})])

    async with Harness(app) as harness:
        run = await harness.send("paid", headers=ACME)
        await harness.finish(run)
    assert plain == [ACME]
    assert own == [{**ACME, "tenant": "b", "by": "ship"}]


async def test_what_a_run_invokes_inherits_its_headers(app: TaskFlow) -> None:
    @app.function
    async def child(ctx: Context[Step]) -> dict[str, str]:
        return dict(ctx.headers)

    @app.function
    async def parent(ctx: Context[Step], step: Step) -> list[dict[str, str]]:
        return [
            await step.invoke("plain", function=child),
            await step.invoke("own", function=child, headers={"by": "parent"}),
        ]

    async with Harness(app) as harness:
        run = await harness.start(parent, {}, headers=ACME)
        assert await run.aresult() == [ACME, {**ACME, "by": "parent"}]
        assert await (await child.ainvoke(headers={"tenant": "d"})).aresult() == {"tenant": "d"}
        assert await (await app.ainvoke(child.id, {}, headers={"tenant": "e"})).aresult() == {"tenant": "e"}


async def test_a_rerun_and_a_replay_have_the_headers_of_the_first_run(app: TaskFlow) -> None:
    seen = listen(app, "paid")
    async with Harness(app) as harness:
        run = (await harness.send("paid", {"n": 1}, headers=ACME)).run
        await app.arerun(run.id)
        await app.arerun(run.id, data={"n": 2})
        await harness.settled()
        await app.areplay("shop/listen-paid", since="1h", status=["completed"])
        await harness.settled()
    assert len(seen) >= 4
    assert all(headers == ACME for headers in seen)


@pytest.mark.parametrize("headers", [ACME, {}, {"q": 'say "headers":\\ é/'}])
async def test_on_failure_has_the_headers_of_the_run_that_failed(app: TaskFlow, headers: Headers) -> None:
    seen: list[ReceivedEvent] = []

    async def tell(ctx: Context[Step]) -> None:
        seen.append(ctx.event)

    @app.function(trigger="paid", on_failure=tell)
    async def ship(ctx: Context[Step]) -> None:
        raise NonRetriableError("no")

    async with Harness(app) as harness:
        await harness.send("paid", {"text": '"headers": none'}, headers=headers)
        await harness.settled()
    (event,) = seen
    assert dict(event.headers) == headers
    assert event.data["event"].get("headers", {}) == headers


async def test_the_event_that_tells_of_a_cancelled_run_has_its_headers(app: TaskFlow) -> None:
    seen: list[ReceivedEvent] = []

    @app.function(trigger="taskflow/function.cancelled")
    async def tell(ctx: Context[Step]) -> None:
        seen.append(ctx.event)

    @app.function(trigger="paid")
    async def ship(ctx: Context[Step], step: Step) -> None:
        await step.sleep("wait", "1h")

    async with Harness(app) as harness:
        run = (await harness.send("paid", headers=ACME)).run
        assert await run.acancel("no longer wanted")
        await harness.settled()
    (event,) = seen
    assert dict(event.headers) == ACME


async def test_a_debounced_run_has_the_headers_of_the_event_that_it_has(app: TaskFlow) -> None:
    seen: list[Any] = []

    @app.function(trigger="paid", debounce=Debounce("10s"))
    async def ship(ctx: Context[Step]) -> None:
        seen.append((ctx.event.data, dict(ctx.headers)))

    async with Harness(app) as harness:
        await harness.send("paid", {"n": 1}, headers={"n": "1"})
        await harness.send("paid", {"n": 2}, headers={"n": "2"})
        await harness.advance(seconds=11)
    assert seen == [({"n": 2}, {"n": "2"})]


async def test_a_batch_has_the_headers_of_its_first_event(app: TaskFlow) -> None:
    seen: list[Any] = []

    @app.function(trigger="paid", batch_events=Batch(2, "5s"))
    async def ship(ctx: Context[Step]) -> None:
        seen.append((dict(ctx.headers), [dict(event.headers) for event in ctx.events]))

    async with Harness(app) as harness:
        await harness.send([Event("paid", headers={"n": "1"}), Event("paid", headers={"n": "2"})])
        await harness.settled()
    assert seen == [({"n": "1"}, [{"n": "1"}, {"n": "2"}])]


async def test_the_runs_of_a_cron_have_the_headers_of_its_trigger(app: TaskFlow) -> None:
    seen: list[dict[str, str]] = []

    @app.function(trigger=[TriggerCron("0 * * * *", headers=ACME), TriggerCron("30 * * * *")])
    async def tick(ctx: Context[Step]) -> None:
        seen.append(dict(ctx.headers))

    async with Harness(app) as harness:
        await harness.advance(hours=1)
    assert sorted(seen, key=len) == [{}, ACME]
    with pytest.raises(ConfigError, match=r"trigger cron '0 \* \* \* \*': header 'n' must be a str"):
        TriggerCron("0 * * * *", headers={"n": 1})  # type: ignore[dict-item]


async def test_expressions_see_headers(app: TaskFlow) -> None:
    seen: list[str] = []

    @app.function(trigger=TriggerEvent("paid", 'event.headers.tenant == "acme"'))
    async def ship(ctx: Context[Step], step: Step) -> None:
        found = await step.wait_for_event(
            "done", event="done", timeout="1h", if_exp="async.headers.tenant == event.headers.tenant"
        )
        assert found is not None
        seen.append(f"{ctx.headers['tenant']} {found.id}")

    async with Harness(app) as harness:
        for headers in (ACME, {"tenant": "b"}, None):
            await harness.send("paid", headers=headers)
        await harness.send("done", id="other", headers={"tenant": "b"})
        await harness.send("done", id="none")
        await harness.send("done", id="same", headers=ACME)
    assert seen == ["acme same"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["a"], "headers must be a dict of str to str or None, got list"),
        ({"": "x"}, "the name of a header must have 1 to 64 of the characters"),
        ({"a b": "x"}, "the name of a header must have 1 to 64 of the characters .* got 'a b'"),
        ({7: "x"}, "the name of a header must have 1 to 64 of the characters .* got 7"),
        ({"n" * 65: "x"}, "the name of a header must have 1 to 64 of the characters"),
        ({"n": 7}, r"header 'n' must be a str, got int; write str\(...\)"),
        ({"n": None}, "header 'n' must be a str, got NoneType"),
        ({"n": "\ud800"}, "header 'n' has lone surrogates"),
        ({"n": "x" * MAX_HEADER_BYTES}, "headers have 8,193 bytes, but at most 8,192 are allowed"),
        ({"n": "é" * (MAX_HEADER_BYTES // 2)}, "headers have 8,193 bytes"),
    ],
)
def test_headers_that_are_none_are_refused_in_the_sender(headers: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=f"event 'paid': {reason}"):
        Event("paid", headers=headers)
    _, (message,) = encode_events("paid", now_ms=1_700_000_000_000, max_bytes=1 << 20)
    (wire,) = orjson.loads(message)
    if "surrogates" not in reason and 7 not in headers:
        with pytest.raises(InvalidEvent, match=reason):
            decode_message(orjson.dumps([{**wire, "headers": headers}]))


async def test_headers_that_become_too_many_by_inheritance_fail_the_step(app: TaskFlow) -> None:
    @app.function(trigger="paid")
    async def ship(ctx: Context[Step], step: Step) -> None:
        await step.send_event("tell", Event("told", headers={"more": "x" * 5_000}))

    async with Harness(app) as harness:
        run = await harness.send("paid", headers={"first": "x" * 5_000})
        with pytest.raises(RunFailed, match=r"headers have 10,\d+ bytes.*inherited included"):
            await run.aresult()


def test_an_event_without_headers_is_as_small_as_before() -> None:
    without: list[Headers | None] = [None, {}]
    for headers in without:
        _, (message,) = encode_events("paid", headers=headers, now_ms=1_700_000_000_000, max_bytes=1 << 20)
        assert b"headers" not in message


async def test_log_records_of_a_run_carry_its_headers(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    @app.function(trigger="paid")
    async def ship(ctx: Context[Step]) -> None:
        ctx.logger.warning("shipping")

    with caplog.at_level(logging.WARNING, "taskflow.run"):
        async with Harness(app) as harness:
            await harness.send("paid", headers=ACME)
            await harness.send("paid")
    records = [record for record in caplog.records if record.message == "shipping"]
    assert [getattr(record, "headers", None) for record in records] == [ACME, None]


async def test_the_line_about_a_failed_run_carries_its_headers(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    @app.function(trigger="paid")
    async def ship(ctx: Context[Step]) -> None:
        raise NonRetriableError("no")

    with caplog.at_level(logging.ERROR, "taskflow.runs"):
        async with Harness(app) as harness:
            await harness.send("paid", headers=ACME)
    (record,) = [record for record in caplog.records if record.name == "taskflow.runs"]
    assert getattr(record, "headers", None) == ACME
