"""Events that cancel runs, as the store keeps them: what stands in the index, and which events count. Rule S6.1."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from taskflow.flow.cancel import Cancel
from taskflow.flow.options import FlowControl
from taskflow.store.hints import events_of
from taskflow.store.records import kept_event
from taskflow.store.routing import Arrival, OpenWait
from taskflow.types import FunctionId
from tests.store.scene import FN, NOW_MS, Scene, sleep_op

UNDONE = "undone:data.order=1"  # what an event of that name and value looks up


def flow_of(*cancel: Cancel, event: dict[str, Any] | None = None) -> bytes:
    """Flow control of a run whose own event has order 1."""
    return FlowControl.of(cancel=cancel).plan(FunctionId(FN), event or {"data": {"order": 1}})


FLOW = flow_of(Cancel("undone", match="data.order"))


async def record(scene: Scene, uid: str, name: str) -> None:
    """What the router keeps of an event."""
    public_id = 'my "name":"id"' if '"' in name else uid
    text = orjson.dumps({"uid": uid, "id": public_id, "name": name, "data": {}, "ts": NOW_MS})
    frame, body = kept_event(uid, name, text)
    fields = ("frame", frame, "data", body) if frame else ("event", body)
    await scene.store.client.call("HSET", scene.store.keys.event(uid), *fields)


async def arrive(
    scene: Scene, *lookups: str, seq: int, uid: str = "U9", name: str = "undone"
) -> list[OpenWait]:
    """An event comes that looks these up; what is left to be evaluated."""
    await record(scene, uid, name)
    found = await scene.store.routing.find_waits(
        [Arrival(uid, seq, orjson.dumps({"name": name}), list(lookups))], limit=100, now_ms=scene.now_ms
    )
    return found.open


async def index_of(scene: Scene) -> dict[str, Any]:
    return {name: value for name, value in (await scene.state()).items() if name.startswith("wait")}


async def ways_to_end(scene: Scene, way: str) -> None:
    """A run with cancel events comes to its end."""
    claim = await scene.claimed_run(flow=FLOW)
    match way:
        case "completed at once":
            assert await scene.finish(claim, pending=False) == "ok"
        case "completed" | "failed" | "cancelled":
            assert await scene.finish(claim, way) == "ok"
        case "cancelled while it sleeps":
            await scene.park(claim, sleep_op())
            assert await scene.cancel() == "cancelled"
        case "cancelled while it is queued":
            await scene.hand_back()
            assert await scene.cancel() == "cancelled"
        case "cancelled by the event":
            await scene.hand_back()
            await arrive(scene, UNDONE, seq=1_000)
            assert await scene.status() == "cancelled"


@pytest.mark.parametrize(
    "way",
    [
        "completed at once", "completed", "failed", "cancelled", "cancelled while it sleeps", "cancelled while it is queued",
        "cancelled by the event",
    ],
)  # fmt: skip
async def test_a_run_stands_in_the_index_until_it_ends(scene: Scene, way: str) -> None:
    """S6.1: whichever way it ends, nothing of it is left there."""
    await scene.make_run("other", flow=FLOW)
    assert len((await index_of(scene))[f"waits:{UNDONE}"]) == 1
    await scene.cancel("other")
    assert await index_of(scene) == {}
    await ways_to_end(scene, way)
    assert await index_of(scene) == {}
    assert "cancels" not in await scene.fields()


async def test_a_value_that_the_run_lacks_puts_nothing_into_the_index(scene: Scene) -> None:
    """S6.1: nothing can be equal to it."""
    assert flow_of(Cancel("undone", match="data.missing")) == flow_of(
        Cancel("undone", if_exp="async.data.x == event.data.missing")
    )
    await scene.make_run(flow=flow_of(Cancel("undone", match="data.missing")))
    assert await index_of(scene) == {}


async def test_only_later_events_count(scene: Scene) -> None:
    """S6.1: not the run's own, and not one that is routed again."""
    routed = await scene.route("U1", "r1", flow=FLOW)
    await arrive(scene, UNDONE, seq=routed.seq - 1)
    await arrive(scene, UNDONE, seq=routed.seq)
    assert await scene.status() == "queued"
    await arrive(scene, UNDONE, seq=routed.seq + 1)
    assert await scene.status() == "cancelled"


async def test_an_app_that_lags_behind_misses_no_event(scene: Scene) -> None:
    """S6.1, S1.6: another app has routed both events before this one routes the first."""
    made = await scene.route("U1", app_id="other")
    undone = await scene.route("U2", name="undone", app_id="other")
    await scene.route("U1", "r1", flow=FLOW)
    again = await scene.route("U2", name="undone")
    assert again.seq == undone.seq > made.seq
    assert again.wait_paths == ["undone\x1fdata.order"]
    await arrive(scene, UNDONE, seq=again.seq)
    assert await scene.status() == "cancelled"


async def test_what_is_too_late_for_ever_leaves_the_index(scene: Scene) -> None:
    """S6.1: the timeout counts from when the run was made, and includes its last moment."""
    await scene.make_run(flow=flow_of(Cancel("undone", match="data.order", timeout="1s")))
    scene.now_ms += 1_001
    await arrive(scene, UNDONE, seq=1_000)
    assert (await scene.status(), await index_of(scene)) == ("queued", {})
    await scene.make_run("r2", flow=flow_of(Cancel("undone", match="data.order", timeout="1s")))
    scene.now_ms += 1_000
    await arrive(scene, UNDONE, seq=1_000)
    assert await scene.status("r2") == "cancelled"


async def test_a_condition_is_evaluated_by_the_router(scene: Scene) -> None:
    """S6.1: the script gives what is left of it, and the run's own event; then the run is cancelled, once."""
    await scene.make_run(flow=flow_of(Cancel("undone", match="data.order", if_exp="async.data.sure")))
    (open_wait,) = await arrive(scene, UNDONE, seq=1_000)
    assert (open_wait.condition, orjson.loads(open_wait.run_event)["name"]) == ("async.data.sure", "order")
    assert await scene.status() == "queued"
    arrival = Arrival("U9", 1_000, b"{}", [UNDONE])
    await scene.store.routing.resolve_wait(open_wait, arrival, now_ms=scene.now_ms)
    assert await scene.status() == "cancelled"
    before = await scene.state()
    await scene.store.routing.resolve_wait(open_wait, arrival, now_ms=scene.now_ms + 1)
    assert await scene.state() == before


@pytest.mark.parametrize("name", ["shop/order.cancelled", 'a "quoted"\\/name', "größer\n"])
async def test_the_reason_names_the_event_whatever_it_is_called(scene: Scene, name: str) -> None:
    """S6.1: it is JSON, made by the script."""
    await scene.make_run(flow=FLOW)
    await arrive(scene, UNDONE, seq=1_000, name=name)
    error = orjson.loads((await scene.fields())["error"])
    assert error == {"name": "Cancelled", "message": f"event {name} came: U9", "stack": ""}


async def test_many_runs_of_one_value_are_cancelled_in_parts(scene: Scene) -> None:
    """S6.1: each script looks at about `limit` of them, and says where to go on."""
    for number in range(250):
        await scene.make_run(f"r{number}", flow=FLOW)
    await record(scene, "U9", "undone")
    arrivals: Sequence[Arrival] = [Arrival("U9", 1_000, b"{}", [UNDONE])]
    looks, cursor = 0, b"0"
    while True:
        found = await scene.store.routing.find_waits(arrivals, limit=100, cursor=cursor, now_ms=NOW_MS)
        looks += 1
        if found.rest is None:
            break
        cursor = found.rest[2]
    assert looks > 1
    assert {await scene.status(f"r{number}") for number in range(250)} == {"cancelled"}
    assert await index_of(scene) == {}


async def test_routers_side_by_side_cancel_each_run_once(scene: Scene) -> None:
    """S6.1, S9.1: also when they get the same events, each of them twice."""
    for number in range(50):
        await scene.make_run(f"r{number}", flow=flow_of(Cancel("un*"), Cancel("undone", match="data.order")))
    await record(scene, "U9", "undone")
    arrival = Arrival("U9", 1_000, b"{}", ["un*:", UNDONE])
    replies = await asyncio.gather(
        *[
            scene.store.routing.find_waits([arrival], limit=1_000, now_ms=NOW_MS + number)
            for number in range(8)
        ]
    )
    told = [uid for reply in replies for uid, _ in events_of(reply.hints)]
    assert len(told) == len(set(told)) == 50
    assert await index_of(scene) == {}
