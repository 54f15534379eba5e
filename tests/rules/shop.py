"""A function of three steps that can be broken and mended."""

from __future__ import annotations

from typing import Any

from taskflow.app import TaskFlow
from taskflow.context import Context
from taskflow.errors import NonRetriableError
from taskflow.function import Function
from taskflow.run import Run, RunStatus
from taskflow.step import Step
from taskflow.testing import Harness


class Shop:
    """A function of three steps, which fails in the second one while `is_broken`, and what it did."""

    def __init__(self, app: TaskFlow) -> None:
        self.did: list[str] = []
        self.is_broken = True

        @app.function(id="fulfil", trigger="order", retries=0)
        async def fulfil(ctx: Context[Step], step: Step) -> list[Any]:
            return [
                await step.run("reserve", self.do, "reserve", ctx.event.data.get("sku", "none")),
                await step.run("charge", self.charge),
                await step.run("ship", self.do, "ship", "ship"),
            ]

        self.fulfil: Function[..., Any] = fulfil

    def do(self, name: str, result: str) -> str:
        self.did.append(name)
        return result

    def charge(self) -> str:
        self.did.append("charge")
        if self.is_broken:
            raise NonRetriableError("card declined")
        return "paid"

    async def failed_run(self, harness: Harness, **data: Any) -> Run:
        (event_id,) = await harness.send("order", data)
        run = await harness.run_of(self.fulfil, event_id)
        assert await run.astatus() is RunStatus.FAILED
        self.did.clear()
        self.is_broken = False
        return run
