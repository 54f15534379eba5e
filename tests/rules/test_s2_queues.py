"""S2.5: a worker takes runs of the queues that it serves, and of no others."""

from __future__ import annotations

from taskflow import Concurrency, Context, TaskFlow
from taskflow.event import Event
from taskflow.runs.control import RunControl
from taskflow.step import Step
from taskflow.worker.child.runner import AppRunner, RunnerOptions


async def test_the_end_of_a_run_that_was_sent_to_another_queue_brings_no_run_of_its_functions_queue(
    app: TaskFlow,
) -> None:
    """Its place under the limit is free then: who serves that queue may take it."""

    @app.function(concurrency=Concurrency(1))
    async def resize(ctx: Context[Step]) -> str:
        return ctx.run_id

    control: RunControl = app._link.control()
    worker = AppRunner(app, RunnerOptions(queues=("gpu",)), child_id="here:0")
    await worker.start()
    try:
        other = await resize.ainvoke()
        for _ in range(3):
            run_id = await control.start(resize.spec, Event("shop/resize"), queue="gpu")
            assert await app.run(run_id).aresult("10s") == run_id
        assert (await app.run(other.id).aview()).status == "queued"
        await other.acancel("over")
    finally:
        await worker.stop()
