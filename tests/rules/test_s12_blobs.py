"""S12.4: large results lie in an object store, are read when the handler comes to them, and are removed with their runs."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from taskflow import BlockingStep, Context, Encryption, RunFailed, Step, TaskFlow
from taskflow.codecs.blobs import Blobs
from taskflow.runs.blob_check import check_blobs
from taskflow.testing import Harness
from tests.conftest import MakeApp

pytestmark = pytest.mark.usefixtures("no_bugs")

MB = 1_000_000


def folder_of(app: TaskFlow) -> Path:
    return Path(app.config.blobs.removeprefix("file://"))


def blobs_in(app: TaskFlow) -> list[Path]:
    return [path for path in folder_of(app).rglob("*") if path.is_file()]


def forget_cache(app: TaskFlow) -> None:
    """As if another process had the run from here on."""
    app.codecs._blobs = None


async def sweep(harness: Harness, *, times: int = 3) -> None:
    for _ in range(times):
        await harness.advance(minutes=6)


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> TaskFlow:
    return make_app(blobs=f"file://{tmp_path}/blobs")


async def test_results_of_ten_megabytes_are_not_in_the_store(app: TaskFlow) -> None:
    calls: list[str] = []

    def large(name: str) -> str:
        calls.append(name)
        return name * (10 * MB)

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> str:
        first = await step.run("first", large, "a")
        await step.sleep("nap", "1h")
        second = await step.run("second", large, "b")
        return first[:MB] + second[:MB]

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        forget_cache(app)
        await harness.advance(hours=1)
        assert await run.aresult() == "a" * MB + "b" * MB
        assert calls == ["a", "b"]
        assert len(blobs_in(app)) == 3
        store = harness.store
        assert int(await store.client.call("MEMORY", "USAGE", store.keys.steps(run.id))) < 2_000
        view = await harness.view(run)
        assert view.output == "in a blob, 1.9 MiB"
        assert view.steps["first"].output == "in a blob, 9.5 MiB"


async def test_small_results_stay_in_the_store(app: TaskFlow) -> None:
    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: "x" * 1_000)

    async with Harness(app) as harness:
        await harness.send("shop/go")
        assert blobs_in(app) == []


async def test_parallel_blobs_reach_the_handler_in_the_order_of_the_first_execution(app: TaskFlow) -> None:
    orders: list[list[str]] = []

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> list[str]:
        order: list[str] = []

        async def branch(name: str, size: int, delay_s: float) -> None:
            async def work() -> str:
                await asyncio.sleep(delay_s)
                return name * size

            order.append((await step.run(f"large-{name}", work))[0])
            await step.run("same", lambda: name)

        await asyncio.gather(branch("a", 3 * MB, 0.03), branch("b", 10, 0.02), branch("c", MB, 0.0))
        await step.sleep("nap", "1h")
        orders.append(order)
        return order

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        forget_cache(app)
        await harness.advance(hours=1)
        assert await run.aresult() == ["c", "b", "a"]
        steps = await harness.steps(run)
        assert [steps[key].output for key in ("same", "same#1", "same#2")] == ["c", "b", "a"]


async def test_def_handler_and_invoked_run_use_blobs(app: TaskFlow) -> None:
    @app.function
    async def child(ctx: Context) -> str:
        return "c" * MB

    @app.function(trigger="shop/go")
    def handler(ctx: Context, step: BlockingStep) -> int:
        got = step.invoke("child", function=child)
        step.sleep("nap", "1h")
        return len(got)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        forget_cache(app)
        await harness.advance(hours=1)
        assert await run.aresult() == MB
        assert len(blobs_in(app)) == 1


async def test_blobs_are_encrypted(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(blobs=f"file://{tmp_path}/blobs", codecs=[Encryption("correct horse battery staple")])

    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: "secret" * MB)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        assert await run.aresult() == "secret" * MB
        assert all(b"secret" not in path.read_bytes() for path in blobs_in(app))


# --- removal ---


@pytest.mark.parametrize("how", ["retention", "keep"])
async def test_blobs_are_removed_with_the_run(make_app: MakeApp, tmp_path: Path, how: str) -> None:
    app = make_app(blobs=f"file://{tmp_path}/blobs", retention="2h" if how == "retention" else None)

    @app.function(trigger="shop/go", keep="1s" if how == "keep" else None)
    async def handler(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: "x" * MB)

    async with Harness(app) as harness:
        await harness.send("shop/go")
        if how == "retention":
            await harness.advance(hours=1)
            assert len(blobs_in(app)) == 1
            await harness.advance(hours=1)
        await sweep(harness)
        assert blobs_in(app) == []
        assert await harness.store.client.call("EXISTS", harness.store.keys.blobs) == 0


async def test_blob_of_a_step_that_was_never_stored_goes_with_the_run(app: TaskFlow) -> None:
    """The process died between the blob and the commit."""

    @app.function(trigger="shop/go", keep="1s")
    async def handler(ctx: Context, step: Step) -> None:
        await step.sleep("nap", "1h")

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        await harness.store.blob_owners.note(run.id, now_ms=harness.clock.now_ms())
        await app.codecs.blobs.put(run.id, b"x" * MB)
        await harness.advance(minutes=50)
        assert len(blobs_in(app)) == 1
        await harness.advance(hours=1)
        await sweep(harness)
        assert blobs_in(app) == []


async def test_rerun_keeps_the_blobs_that_it_took_over(app: TaskFlow) -> None:
    @app.function(trigger="shop/go", keep="1s")
    async def handler(ctx: Context, step: Step) -> int:
        first = await step.run("first", lambda: "x" * MB)
        await step.run("second", lambda: None)
        if ctx.event.data.get("sleeps"):
            await step.sleep("nap", "3h")
        return len(first)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        again = await app.arerun(run.id, from_step="second", data={"sleeps": True})
        await sweep(harness)
        assert len(blobs_in(app)) == 1
        forget_cache(app)
        await harness.advance(hours=3)
        await sweep(harness)
        assert blobs_in(app) == []
        assert again.id != run.id


async def test_run_that_invoked_another_keeps_its_blob(app: TaskFlow) -> None:
    @app.function(keep="1s")
    async def child(ctx: Context) -> str:
        return "c" * MB

    lengths: list[int] = []

    @app.function(trigger="shop/go", keep="1s")
    async def handler(ctx: Context, step: Step) -> None:
        got = await step.invoke("child", function=child)
        await step.sleep("nap", "3h")
        lengths.append(len(got))

    async with Harness(app) as harness:
        await harness.send("shop/go")
        await sweep(harness)
        assert len(blobs_in(app)) == 1
        forget_cache(app)
        await harness.advance(hours=3)
        assert lengths == [MB]
        await sweep(harness)
        assert blobs_in(app) == []


# --- a store that is away, a blob that is gone ---


async def test_run_waits_while_its_blob_can_not_be_read(
    app: TaskFlow, make_app: MakeApp, tmp_path: Path
) -> None:
    caught: list[str] = []

    @app.function(trigger="shop/go", retries=0)
    async def handler(ctx: Context, step: Step) -> int:
        try:
            first = await step.run("first", lambda: "x" * MB)
            await step.sleep("nap", "1h")
        except Exception as error:
            caught.append(type(error).__name__)
            raise
        return len(first)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        # The app forgets where its blobs are.
        known, app.codecs.place = app.codecs.place, None
        forget_cache(app)
        await harness.advance(hours=3)
        waiting = await harness.view(run)
        assert waiting.status == "waiting"
        assert "BlobUnavailable" in (waiting.why or "")
        app.codecs.place = known
        await harness.advance(minutes=2)
        assert await run.aresult() == MB
        assert caught == []


async def test_blob_that_is_gone_fails_the_run(app: TaskFlow) -> None:
    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> int:
        first = await step.run("first", lambda: "x" * MB)
        await step.sleep("nap", "1h")
        return len(first)

    async with Harness(app) as harness:
        run = await harness.send("shop/go")
        shutil.rmtree(folder_of(app))
        forget_cache(app)
        await harness.advance(hours=1)
        with pytest.raises(RunFailed, match=r"DecodeError: blob .* is gone from .*rerun the run"):
            await run.aresult()
        blobs = Blobs(app.config.blobs, app.config.namespace)
        report = await check_blobs(harness.store, blobs, list(app.functions), limit=10)
        assert [run_id for run_id, _ in report.missing] == [run.id]


async def test_step_whose_blob_can_not_be_written_is_tried_again(app: TaskFlow) -> None:
    @app.function(trigger="shop/go", retries=3)
    async def handler(ctx: Context, step: Step) -> int:
        return len(await step.run("first", lambda: "x" * MB))

    async with Harness(app) as harness:
        assert app.codecs.blobs.url == app.config.blobs
        # A file stands where the folder was.
        folder = folder_of(app)
        folder.rmdir()
        folder.write_text("")
        run = await harness.send("shop/go")
        assert "BlobUnavailable: blobs in file:///" in await run.run.apage()
        folder.unlink()
        folder.mkdir()
        await harness.finish(run)
        assert await run.aresult() == MB
        step = (await harness.steps(run))["first"]
        assert [attempt.error.name for attempt in step.failed_attempts] == ["BlobUnavailable"]


async def test_check_finds_orphans(app: TaskFlow) -> None:
    @app.function(trigger="shop/go")
    async def handler(ctx: Context, step: Step) -> Any:
        await step.run("one", lambda: "x" * MB)

    async with Harness(app) as harness:
        await harness.send("shop/go")
        await app.codecs.blobs.put("01GONE-abcdef", b"orphan")
        report = await check_blobs(harness.store, app.codecs.blobs, list(app.functions), limit=10)
        assert (report.blobs, [orphan.owner for orphan in report.orphans], report.missing) == (
            2,
            ["01GONE-abcdef"],
            [],
        )
