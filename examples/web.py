"""A web API before the order workflow: it starts runs, sends events, and shows how a run is getting on.

    pip install 'taskflow-durable[dev,fastapi]'
    taskflow dev -A examples.order --port 6379       # in one terminal; redis://localhost:6379 is where an app looks
    uvicorn examples.web:api                         # in another

    curl -X POST localhost:8000/orders --json '{"order_id": "A-1", "item": "oolong", "cents": 1250, "email": "ada@example.org"}'
    curl localhost:8000/runs/...                # the run_id that came back
    curl -X POST localhost:8000/orders/A-1/shipped

The web process needs no worker code, only the app: it talks to broker and store, and never blocks its loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path
from pydantic import BaseModel, Field

from examples.order import app, fulfil_order
from taskflow.errors import BrokerUnavailable, RunCancelled, RunFailed, RunNotFound, StoreUnavailable

ORDER_ID = r"^[A-Za-z0-9-]{1,40}$"


class Order(BaseModel):
    order_id: str = Field(pattern=ORDER_ID)
    item: str
    cents: int = Field(gt=0)
    email: str


class Progress(BaseModel):
    """How a run is getting on; `result` is there when it has completed, `error` when it has failed."""

    run_id: str
    status: str
    result: Any = None
    error: str | None = None


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await app.aclose()


api = FastAPI(title="Shop", lifespan=lifespan)


@api.post("/orders", status_code=202)
async def create_order(order: Order) -> Progress:
    """Start the workflow; the answer names the run."""
    try:
        run = await fulfil_order.ainvoke(order.model_dump())
    except (StoreUnavailable, BrokerUnavailable) as error:
        raise HTTPException(503, str(error)) from error
    return Progress(run_id=run.id, status=await run.astatus())


@api.post("/orders/{order_id}/shipped", status_code=202)
async def ship_order(order_id: Annotated[str, Path(pattern=ORDER_ID)]) -> dict[str, list[str]]:
    """Tell whoever waits for it that the parcel has left."""
    try:
        return {"event_ids": await app.asend("shop/order.shipped", {"order_id": order_id})}
    except BrokerUnavailable as error:
        raise HTTPException(503, str(error)) from error


@api.get("/runs/{run_id}")
async def show_run(run_id: str) -> Progress:
    """How a run is getting on."""
    run = app.run(run_id)
    try:
        status = await run.astatus()
        result = await run.aresult() if status.is_final else None
    except RunNotFound as error:
        raise HTTPException(404, str(error)) from error
    except (RunFailed, RunCancelled) as error:
        return Progress(run_id=run_id, status=await run.astatus(), error=str(error))
    return Progress(run_id=run_id, status=status, result=result)
