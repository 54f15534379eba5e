"""S12.2: what an app stores and sends can only be read with its key, and a run waits for a key that its process lacks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taskflow import (
    Batch,
    BlockingStep,
    Cancel,
    Concurrency,
    ConfigError,
    Context,
    DecodeError,
    Encryption,
    Event,
    Priority,
    RunFailed,
    Step,
    StepError,
    TaskFlow,
    TriggerEvent,
    UnknownKey,
)
from taskflow.codecs.codecs import AnyCodec, Codecs
from taskflow.testing import Harness
from taskflow.values.clock import VirtualClock
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")

KEY, OLD = "correct horse battery staple", "an old horse and a staple"
SECRET = "078-05-1120"


async def everything_in(harness: Harness) -> str:
    """All that the store holds of the namespace, as one text."""
    client, texts = harness.store.client, []
    for key in await client.call("KEYS", f"{harness.store.keys.prefix}*"):
        kind = await client.call("TYPE", key)
        read = {
            "string": ("GET", key), "hash": ("HGETALL", key), "list": ("LRANGE", key, 0, -1), "zset": ("ZRANGE", key, 0, -1),
            "set": ("SMEMBERS", key), "stream": ("XRANGE", key, "-", "+"),
        }[kind if isinstance(kind, str) else kind.decode()]  # fmt: skip
        texts.append(f"{key!r}={await client.call(*read)!r}")
    return "\n".join(texts)


async def test_steps_outputs_signals_errors_invokes_and_inputs_are_stored_encrypted(
    make_app: MakeApp,
) -> None:
    app = make_app(codecs=[Encryption(KEY)])

    async def fail(text: str) -> None:
        raise ValueError(f"no such {text}")

    @app.function(retries=0)
    async def child(ctx: Context) -> str:
        return f"child of {ctx.event.data['encrypted']}"

    @app.function(trigger="shop/go", retries=0)
    async def parent(ctx: Context, step: Step) -> dict[str, Any]:
        secret = ctx.event.data["encrypted"]["ssn"]
        recording = step.with_options(record_input=True, retries=0)
        got = [await recording.run("echo", lambda text: text, secret)]
        got.append(await step.invoke("child", function=child, data={"encrypted": secret}))
        signal = await step.wait_for_signal("signal", "hello", "1h")
        assert signal is not None
        got.append(signal.data)
        event = await step.wait_for_event("event", "shop/more", "1h")
        assert event is not None
        got.append(event.data["encrypted"])
        with pytest.raises(StepError) as caught:
            await recording.run("fail", fail, secret)
        return {"got": got, "error": caught.value.message}

    async with Harness(app) as harness:
        run = await harness.send("shop/go", {"encrypted": {"ssn": SECRET}, "n": 1})
        assert await app.asend_signal("hello", SECRET)
        await harness.settled()
        await harness.send("shop/more", {"encrypted": SECRET})
        got = [SECRET, f"child of {SECRET}", SECRET, SECRET]
        assert await run.aresult() == {"got": got, "error": f"no such {SECRET}"}
        assert SECRET not in await everything_in(harness)
        view = await harness.view(run)
        assert view.output == {"got": got, "error": f"no such {SECRET}"}
        assert view.event["data"] == {"encrypted": {"ssn": SECRET}, "n": 1}
        assert view.steps["echo"].input == {"args": [SECRET], "kwargs": {}}
        assert view.steps["echo"].output == SECRET
        assert view.steps["signal"].output == {"name": "hello", "data": SECRET}
        assert view.steps["event"].output["data"] == {"encrypted": SECRET}  # type: ignore[index,call-overload]
        error = view.steps["fail"].error
        assert error is not None
        assert error.message == f"no such {SECRET}"
        assert error.name == "ValueError"
        assert "raise ValueError" in error.stack


async def test_error_of_a_run_is_encrypted_and_its_on_failure_reads_it(make_app: MakeApp) -> None:
    app, told = make_app(codecs=[Encryption(KEY)]), []

    async def on_failure(ctx: Context) -> None:
        told.append((ctx.event.data["error"]["message"], ctx.event.data["event"]["data"]))

    @app.function(trigger="shop/go", retries=1, on_failure=on_failure)
    async def handler(ctx: Context) -> None:
        raise ValueError(f"no such {SECRET}")

    async with Harness(app) as harness:
        run = await harness.send("shop/go", {"encrypted": SECRET})
        assert SECRET not in await everything_in(harness)
        waiting = await harness.view(run)
        assert SECRET in (waiting.why or "")
        await harness.finish(run)
        await harness.settled()
        assert SECRET not in await everything_in(harness)
        with pytest.raises(RunFailed, match=SECRET):
            await run.aresult()
        assert told == [(f"no such {SECRET}", {"encrypted": SECRET})]
        view = await harness.view(run)
        assert [attempt.error.message for attempt in view.failed_attempts] == [f"no such {SECRET}"] * 2


def test_blocking_handler_reads_and_writes_encrypted_values(make_app: MakeApp) -> None:
    app = make_app(codecs=[Encryption(KEY)])

    @app.function(trigger="shop/go")
    def handler(ctx: Context, step: BlockingStep) -> Any:
        one = step.run("one", lambda: ctx.event.data["encrypted"])
        step.sleep("nap", "1h")
        return step.run("two", lambda: [one])

    async def work() -> None:
        async with Harness(app) as harness:
            run = await harness.send("shop/go", {"encrypted": SECRET})
            await harness.advance(hours=1)
            assert await run.aresult() == [SECRET]
            assert SECRET not in await everything_in(harness)

    asyncio.run(work())


async def test_rerun_with_edits_stores_them_encrypted(make_app: MakeApp) -> None:
    app = make_app(codecs=[Encryption(KEY)])

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> Any:
        return [
            ctx.event.data["encrypted"],
            await step.run("one", lambda: "plain"),
            await step.run("two", lambda: 2),
        ]

    async with Harness(app) as harness:
        run = await harness.send("shop/go", {"encrypted": "first"})
        edited = await app.arerun(run.id, from_step="one", output=SECRET)
        await harness.settled()
        assert await edited.aresult() == ["first", SECRET, 2]
        other = await app.arerun(run.id, data={"encrypted": SECRET})
        await harness.settled()
        assert await other.aresult() == [SECRET, "plain", 2]
        assert SECRET not in await everything_in(harness)


# --- expressions ---

READING: list[tuple[str, dict[str, Any]]] = [
    ("trigger", {"trigger": TriggerEvent("shop/go", "event.data.encrypted.n > 1")}),
    ("trigger", {"trigger": TriggerEvent("shop/go", 'event.data["encrypted"] == 1')}),
    ("trigger", {"trigger": TriggerEvent("shop/go", "size(event.data) > 1")}),
    ("trigger", {"trigger": TriggerEvent("shop/go", "event.data[event.name] == 1")}),
    ("trigger", {"trigger": TriggerEvent("shop/go", "has(event.data.encrypted.n)")}),
    ("concurrency", {"trigger": "shop/go", "concurrency": Concurrency(1, key="event.data.encrypted")}),
    ("priority", {"trigger": "shop/go", "priority": Priority("event.data.encrypted.n")}),
    ("idempotency", {"trigger": "shop/go", "idempotency": "event.data.encrypted"}),
    ("cancel match", {"trigger": "shop/go", "cancel": Cancel("shop/stop", match="data.encrypted.n")}),
    ("cancel if_exp", {"trigger": "shop/go", "cancel": Cancel("shop/stop", if_exp="async.data.encrypted == 1")}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "options"), READING, ids=[str(n) for n in range(len(READING))])
def test_option_that_reads_an_encrypted_field_is_refused_at_the_decorator(
    make_app: MakeApp, what: str, options: dict[str, Any]
) -> None:
    app = make_app(codecs=[Encryption(KEY)])
    with pytest.raises(
        ConfigError, match=rf"function 'shop/handler': .*{what}.* data.encrypted of events is encrypted"
    ):

        @app.function(**options)
        async def handler(ctx: Context) -> None: ...


def test_option_that_reads_other_fields_is_allowed(make_app: MakeApp) -> None:
    app = make_app(codecs=[Encryption(KEY, event_fields=["data.secret.card"])])

    @app.function(
        trigger=TriggerEvent("shop/go", "event.data.secret.brand == 'V' && event.data.n > 1"),
        concurrency=Concurrency(1, key="event.data.customer"), cancel=Cancel("shop/stop", match="data.order"),
    )  # fmt: skip
    async def handler(ctx: Context) -> None: ...

    assert "shop/handler" in app.functions


@pytest.mark.parametrize("wait", [{"match": "data.encrypted"}, {"if_exp": "async.data.encrypted == 1"}])
async def test_wait_that_reads_an_encrypted_field_fails_the_run(
    make_app: MakeApp, wait: dict[str, Any]
) -> None:
    app = make_app(codecs=[Encryption(KEY)], retries=0)

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> None:
        await step.wait_for_event("wait", "shop/more", "1h", **wait)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        with pytest.raises(RunFailed, match=r"ConfigError: .*data.encrypted of events is encrypted"):
            await run.aresult()


# --- keys that are missing or wrong ---


def make_shop(make_app: MakeApp, codecs: Sequence[AnyCodec], log: list[str]) -> TaskFlow:
    """An app with a function that sleeps between two steps, and that would catch any exception of a step."""
    app = make_app("shop", codecs=codecs)

    @app.function(trigger="shop/go", retries=1)
    async def handler(ctx: Context, step: Step) -> Any:
        try:
            first = await step.run("first", lambda: ctx.event.data["encrypted"])
            await step.sleep("nap", "1h")
            return [first, await step.run("second", lambda: f"again {first}")]
        except Exception as error:
            log.append(f"caught {type(error).__name__}")
            return await step.run("compensate", lambda: "compensated")
        finally:
            log.append("finally")
            await step.run("cleanup", lambda: None)

    return app


async def test_key_rotation_with_live_runs(make_app: MakeApp) -> None:
    """The new key is made known everywhere, then encrypts, then the old one is dropped; runs live through all of it."""
    clock = VirtualClock(1_893_456_000_000)
    log: list[str] = []
    runs: list[str] = []
    stages: list[Sequence[AnyCodec]] = [
        [Encryption(OLD)], [Encryption(OLD, fallback_keys=[KEY])], [Encryption(KEY, fallback_keys=[OLD])],
    ]  # fmt: skip
    for number, codecs in enumerate(stages):
        app = make_shop(make_app, codecs, log)
        async with Harness(app, clock=clock) as harness:
            await harness.settled()
            runs.append((await harness.send("shop/go", {"encrypted": f"{SECRET}-{number}"})).id)
            await harness.advance(minutes=25)
    # 75 minutes later the first run has ended, under the new key, from memos of the old one.
    last = make_shop(make_app, [Encryption(KEY)], log)
    async with Harness(last, clock=clock) as harness:
        await harness.advance(minutes=1)
        # Begun under the new key.
        await harness.advance(hours=2)
        assert await last.run(runs[2]).aresult() == [f"{SECRET}-2", f"again {SECRET}-2"]
        assert SECRET not in await everything_in(harness)
        # Begun under the old key, and not ended before it was dropped: it waits.
        waiting = await harness.view(last.run(runs[1]))
        assert waiting.status == "waiting"
        assert f"UnknownKey: a value is encrypted with key {Encryption(OLD).key.id}" in (waiting.why or "")
    again = make_shop(make_app, [Encryption(KEY, fallback_keys=[OLD])], log)
    async with Harness(again, clock=clock) as harness:
        await harness.advance(minutes=2)
        for number, run_id in enumerate(runs):
            assert await again.run(run_id).aresult() == [f"{SECRET}-{number}", f"again {SECRET}-{number}"]
    assert not [line for line in log if line.startswith("caught")]


@pytest.mark.parametrize("codecs", [[], [Encryption(KEY)]], ids=["no encryption", "another key"])
async def test_run_waits_for_an_unknown_key_without_using_up_attempts(
    make_app: MakeApp, codecs: Sequence[AnyCodec], caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock(1_893_456_000_000)
    log: list[str] = []
    async with Harness(make_shop(make_app, [Encryption(OLD)], log), clock=clock) as harness:
        run_id = (await harness.send("shop/go", {"encrypted": SECRET})).id
    log.clear()
    app = make_shop(make_app, codecs, log)
    async with Harness(app, clock=clock) as harness:
        await harness.advance(hours=3)
        view = await harness.view(app.run(run_id))
        assert view.status == "waiting"
        assert (view.attempt, view.failed_attempts) == (0, ())
        assert "UnknownKey" in (view.why or "")
        assert "it is tried again in" in caplog.text
    assert set(log) <= {"finally"}
    app = make_shop(make_app, [Encryption(KEY, fallback_keys=[OLD])], log)
    async with Harness(app, clock=clock) as harness:
        await harness.advance(minutes=2)
        assert await app.run(run_id).aresult() == [SECRET, f"again {SECRET}"]
    assert "caught UnknownKey" not in log


async def test_wait_for_a_key_is_no_failed_attempt_and_leaves_those_as_they_are(make_app: MakeApp) -> None:
    clock, run_id = VirtualClock(1_893_456_000_000), ""

    def make(*codecs: AnyCodec) -> TaskFlow:
        app = make_app("shop", codecs=codecs, retries=2)

        @app.function(trigger="shop/go")
        async def handler(ctx: Context, step: Step) -> None:
            await step.run("first", lambda: SECRET)
            raise ValueError(f"attempt {ctx.attempt}")

        return app

    async def failures(harness: Harness) -> list[str]:
        view = await harness.view(harness.apps[0].run(run_id))
        return [attempt.error.message for attempt in view.failed_attempts]

    async with Harness(make(Encryption(OLD)), clock=clock) as harness:
        run_id = (await harness.send("shop/go")).id
        assert await failures(harness) == ["attempt 0"]
    async with Harness(make(Encryption(KEY)), clock=clock) as harness:
        await harness.advance(hours=1)
        view = await harness.view(harness.apps[0].run(run_id))
        assert re.match(r"waiting to be tried again in .* \(UnknownKey: ", view.why or "")
        assert (view.attempt, len(view.failed_attempts)) == (1, 1)
    async with Harness(make(Encryption(KEY, fallback_keys=[OLD])), clock=clock) as harness:
        await harness.advance(hours=1)
        assert await failures(harness) == ["attempt 0", "attempt 1", "attempt 2"]


async def test_event_whose_key_is_unknown_lets_its_run_wait_before_its_code_is_called(
    make_app: MakeApp,
) -> None:
    clock = VirtualClock(1_893_456_000_000)
    log: list[str] = []
    sender = make_shop(make_app, [Encryption(OLD)], log)
    async with Harness(make_shop(make_app, [Encryption(KEY)], log), clock=clock) as harness:
        (event_id,) = await sender.asend("shop/go", {"encrypted": SECRET})
        await harness.settled()
        run = await harness.run_of(harness.apps[0].functions["shop/handler"], event_id)
        await harness.advance(hours=1)
        assert (await harness.view(run)).status == "waiting"
    assert log == []
    async with Harness(
        make_shop(make_app, [Encryption(KEY, fallback_keys=[OLD])], log), clock=clock
    ) as harness:
        await harness.advance(hours=2)
        assert await harness.apps[0].run(run.id).aresult() == [SECRET, f"again {SECRET}"]


async def test_damaged_memo_fails_the_run_and_its_code_can_not_catch_that(make_app: MakeApp) -> None:
    clock = VirtualClock(1_893_456_000_000)
    log: list[str] = []
    app = make_shop(make_app, [Encryption(KEY)], log)
    async with Harness(app, clock=clock) as harness:
        run = await harness.send("shop/go", {"encrypted": SECRET})
        log.clear()
        store = harness.store
        packed = await store.client.call("HGET", store.keys.steps(run.id), "first")
        place = packed.index(b'"data":"') + 40
        other = b"B" if packed[place : place + 1] == b"A" else b"A"
        damaged = packed[:place] + other + packed[place + 1 :]
        await store.client.call("HSET", store.keys.steps(run.id), "first", damaged)
        await harness.advance(hours=1)
        with pytest.raises(RunFailed, match="DecodeError: an encrypted value is damaged"):
            await run.aresult()
        assert "caught DecodeError" not in log
        assert list((await harness.view(run)).steps) == ["first", "nap"]


async def test_error_that_is_stored_in_clear_does_not_tell_what_the_code_was_handling(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app(codecs=[Encryption(KEY)], blobs=f"file://{tmp_path}")

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> int:
        try:
            raise ValueError(ctx.event.data["encrypted"])
        except ValueError:
            large = await step.run("large", lambda: "x" * 100_000)
            await step.sleep("nap", "1h")
            return len(large)

    async with Harness(app) as harness:
        run = await harness.send("shop/go", {"encrypted": SECRET})
        # As if another process had the run from here on, which does not know where the blobs are.
        app.codecs.place = app.codecs._blobs = None
        await harness.advance(hours=1)
        assert "BlobUnavailable: a value lies in a blob" in ((await harness.view(run)).why or "")
        assert SECRET not in await everything_in(harness)


async def test_result_that_the_caller_can_not_read_is_an_error_of_the_call(make_app: MakeApp) -> None:
    log: list[str] = []
    async with Harness(make_shop(make_app, [Encryption(KEY)], log)) as harness:
        run = await harness.send("shop/go", {"encrypted": SECRET})
        await harness.finish(run)
        stranger = make_app("other")
        with pytest.raises(UnknownKey):
            await stranger.run(run.id).aresult()
        view = await stranger.run(run.id).aview()
        assert view.output == f"encrypted (key {Encryption(KEY).key.id})"
        assert issubclass(UnknownKey, DecodeError)


async def test_handler_of_a_batch_reads_encrypted_events(make_app: MakeApp) -> None:
    app = make_app(codecs=[Encryption(KEY)])

    @app.function(trigger="shop/go", batch_events=Batch(2, "1h"))
    async def handler(ctx: Context) -> list[str]:
        return [event.data["encrypted"] for event in ctx.events]

    async with Harness(app) as harness:
        sent = await harness.send(
            [Event("shop/go", {"encrypted": "a"}), Event("shop/go", {"encrypted": "b"})]
        )
        assert await sent.runs[0].aresult() == ["a", "b"]


async def test_arguments_of_tasks_and_of_canvases_are_encrypted_with_all_of_the_data(
    make_app: MakeApp,
) -> None:
    app = make_app(codecs=[Encryption(KEY, event_fields=["data"])])

    @app.task
    async def greet(name: str) -> str:
        return f"hello {name}"

    @app.task
    async def shout(text: str) -> str:
        return text.upper()

    async with Harness(app) as harness:
        runs = [await greet.adelay(SECRET), await greet.options(id="once").adelay(SECRET)]
        again = await greet.options(id="once").adelay(SECRET)
        chain = await (greet.s(SECRET) | shout.s()).adelay()
        await harness.settled()
        assert [await run.aresult() for run in (*runs, again)] == [f"hello {SECRET}"] * 3
        assert again.id == runs[1].id
        assert await chain.aresult() == f"HELLO {SECRET}"
        assert SECRET not in await everything_in(harness)


def test_codecs_of_an_app_are_seen(make_app: MakeApp) -> None:
    assert isinstance(make_app(codecs=[Encryption(KEY)]).codecs, Codecs)
