"""S13.4: a failed run is reported to Sentry once, with its run, function and step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from taskflow import Context, NonRetriableError, Retries, Sentry, Step, StepError, TaskFlow
from taskflow.testing import Harness
from tests.conftest import MakeApp


class Recorder(Transport):
    """Keeps what would go to Sentry."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        if (event := envelope.get_event()) is not None:
            self.events.append(event)


@pytest.fixture
def sentry() -> Iterator[Recorder]:
    recorder = Recorder()
    # The other integrations patch libraries, for the tests that follow too.
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", transport=recorder, default_integrations=False, integrations=[LoggingIntegration()]
    )  # fmt: skip
    yield recorder
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def app(make_app: MakeApp) -> TaskFlow:
    return make_app(middleware=[Sentry()])


async def test_a_failed_run_is_reported_once_with_its_error_and_where_it_happened(
    app: TaskFlow, sentry: Recorder
) -> None:
    def charge() -> None:
        raise OSError("the line is down")

    @app.function(trigger="shop/order", retries=Retries(attempts=1, initial="1m"))
    async def fulfil(ctx: Context, step: Step) -> None:
        await step.run("reserve", len, "abc")
        await step.run("charge", charge)

    async with Harness(app) as harness:
        sent = await harness.send("shop/order", {"card": "4711"})
        assert sentry.events == []
        await harness.advance(hours=1)
    (event,) = sentry.events
    (run_id,) = [run.id for run in sent.runs]
    assert event["tags"] == {
        "taskflow.run_id": run_id, "taskflow.function_id": fulfil.spec.id, "taskflow.step_id": "charge",
    }  # fmt: skip
    assert event["transaction"] == fulfil.spec.id
    assert event["contexts"]["run"]["event"] == "shop/order"
    kinds = [each["type"] for each in event["exception"]["values"]]
    assert kinds == ["OSError", "StepError"]
    frames = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "charge"
    assert event["exception"]["values"][-1]["mechanism"]["handled"] is False
    assert "4711" not in str(event["contexts"]) + str(event.get("extra"))


async def test_an_error_that_is_caught_or_tried_again_is_no_report(app: TaskFlow, sentry: Recorder) -> None:
    tries = 0

    def fails() -> None:
        raise NonRetriableError("no")

    @app.function(retries=Retries(attempts=1, initial="1m"))
    async def careful(ctx: Context, step: Step) -> None:
        nonlocal tries
        try:
            await step.run("fails", fails)
        except StepError:
            tries += 1
        if tries == 1:
            raise OSError("once")

    async with Harness(app) as harness:
        run = await harness.start(careful)
        await harness.advance(hours=1)
        assert run.view().status == "completed"
    assert tries == 2 and sentry.events == []


async def test_what_user_code_reports_is_marked_and_runs_do_not_mix(app: TaskFlow, sentry: Recorder) -> None:
    met = asyncio.Barrier(2)

    async def look(name: str) -> None:
        sentry_sdk.add_breadcrumb(message=name)
        sentry_sdk.set_tag("name", name)
        await met.wait()
        sentry_sdk.capture_message(f"seen {name}")

    @app.function()
    async def works(ctx: Context, step: Step) -> None:
        await step.run("look", look, ctx.event.data["name"])

    async with Harness(app) as harness:
        runs = await asyncio.gather(*[harness.start(works, {"name": name}) for name in "ab"])
        await harness.settled()
    assert len(sentry.events) == 2
    for run, name in zip(runs, "ab", strict=True):
        (event,) = [event for event in sentry.events if event["message"] == f"seen {name}"]
        assert event["tags"] == {
            "taskflow.run_id": run.id, "taskflow.function_id": works.spec.id, "taskflow.step_id": "look", "name": name,
        }  # fmt: skip
        assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == [name]


async def test_an_error_that_user_code_logs_is_a_report_of_its_own(app: TaskFlow, sentry: Recorder) -> None:
    @app.function()
    async def works(ctx: Context, step: Step) -> None:
        ctx.logger.error("odd")

    async with Harness(app) as harness:
        run = await harness.start(works)
        await harness.settled()
    (event,) = sentry.events
    assert event["logentry"]["message"] == "odd" and event["tags"]["taskflow.run_id"] == run.id


async def test_without_init_it_does_nothing(app: TaskFlow) -> None:
    @app.function(retries=0)
    async def fails(ctx: Context, step: Step) -> None:
        await step.run("fine", len, "abc")
        raise OSError("down")

    async with Harness(app) as harness:
        run = await harness.start(fails)
        assert run.view().status == "failed"
