"""The functions that carry out the canvases of an app, and that cancel what a cancelled one has started. Rule S15.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from taskflow.context import Context
from taskflow.errors import RunNotFound
from taskflow.function import Function, FunctionApp, FunctionSpec
from taskflow.retries import Retries
from taskflow.step import Step
from taskflow.tasks.nodes import CANVAS, CANVAS_CANCELLED
from taskflow.triggers import TriggerEvent

if TYPE_CHECKING:
    from taskflow.connected_app import ConnectedApp

CANCELLED = "taskflow/function.cancelled"
ENDED = ("done", "failed")


def define_canvas(app: ConnectedApp) -> None:
    """Give the app the functions of its canvases, once. Raises ConfigError if it has another function of that name."""
    canvas_id = f"{app.id}/{CANVAS}"
    if f"{app.id}/{CANVAS_CANCELLED}" in app.functions:
        return

    async def cancel_live(run_id: str, reason: str) -> int:
        """Cancel the runs that a canvas has started and that have not ended; return how many. Safe to repeat."""
        import asyncio

        try:
            view = await app.run(run_id).aview()
        except RunNotFound:
            return 0
        children = [step.child for step in view.steps.values() if step.child and step.state not in ENDED]
        cancelled = await asyncio.gather(*[cancel(child, reason) for child in children])
        return sum(cancelled)

    async def cancel(run_id: str, reason: str) -> bool:
        try:
            return await app.run(run_id).acancel(reason)
        except RunNotFound:
            return False

    async def canvas(ctx: Context[Step]) -> Any:
        # Only workers need it.
        from taskflow.tasks.canvas import CanvasRun

        return await CanvasRun(ctx, canvas_id, cancel_live).whole(ctx.event.data)

    async def canvas_cancelled(ctx: Context[Step]) -> int:
        return await cancel_live(ctx.event.data["run_id"], "its canvas was cancelled")

    told = TriggerEvent(CANCELLED, expression=f'event.data.function_id == "{canvas_id}"')
    specs = (
        (
            canvas,
            FunctionSpec(app_id=app.id, slug=CANVAS, name="canvas", retries=Retries(0), determinism="warn"),
        ),
        (
            canvas_cancelled,
            FunctionSpec(
                app_id=app.id, slug=CANVAS_CANCELLED, name="canvas (when cancelled)", triggers=(told,)
            ),
        ),
    )
    functions, home = app._functions, cast(FunctionApp, app)
    for handler, spec in specs:
        functions.register(
            Function(
                handler, spec=spec, app=home, middleware=tuple(functions.middleware), types=functions.types
            ),
            home,
        )
