"""S3.3: `match`, short for an equality of both events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.event import Event
from taskflow.expressions.cel import compile_expression
from taskflow.expressions.matching import MISSING, token_for, value_at
from taskflow.testing import Harness
from tests.rules.givens import is_waiting, waiting_function

pytestmark = pytest.mark.usefixtures("no_bugs")


async def test_match_asks_for_the_same_value_in_both_events(app: TaskFlow) -> None:
    """S3.3"""
    waits = waiting_function(app, match="data.order.id")
    async with Harness(app, workers=2) as harness:
        runs = {}
        for order_id in (7, "7", 8, True, None, 1.5, [1], {"a": 1}, "x" * 500):
            (event_id,) = await harness.send("ordered", {"order": {"id": order_id}})
            runs[repr(order_id)] = await harness.run_of(waits, event_id)
        no_data: list[dict[str, Any]] = [{}, {"order": 7}, {"order": {}}, {"order": {"id": 9}}, {"id": 7}]
        for data in no_data:
            await harness.send("paid", data)
        assert {name for name, run in runs.items() if await is_waiting(run)} == set(runs)
        for order_id in ({"a": 1}, 7.0, "7", None, True, 1.5, [1], "x" * 500):
            await harness.send("paid", {"order": {"id": order_id}})
            await harness.send("paid", {"order": {"id": order_id}, "late": True})
        ended = {name: await run.aresult("1s") for name, run in runs.items() if not await is_waiting(run)}
        assert await is_waiting(runs.pop("8"))
        assert ended == {
            repr(value): {"order": {"id": value}}
            for value in (7, "7", True, None, 1.5, [1], {"a": 1}, "x" * 500)
        }
        await harness.advance(hours=1)


async def test_a_match_on_what_the_runs_event_lacks_meets_nothing(app: TaskFlow) -> None:
    """S3.3: as `event.data.x == async.data.x`, which is an error then."""
    waits = waiting_function(app, match="data.x")
    async with Harness(app) as harness:
        run = await harness.start(waits, {"y": 1})
        for data in ({}, {"x": None}, {"x": 1}, {"y": 1}, {"x": "\x00nothing"}):
            await harness.send("paid", data)
        assert await is_waiting(run)
        await harness.advance(hours=1)
        assert await run.aresult("1s") is None


@pytest.mark.parametrize("path", ["user.id", "name", "ts", "v"])
async def test_match_takes_any_field_of_the_events(app: TaskFlow, path: str) -> None:
    """S3.3"""
    waits = waiting_function(app, "ordered", match=path)
    async with Harness(app) as harness:
        (event_id,) = await harness.send(Event("ordered", user={"id": 1}, ts=1_700_000_000_005, v="1"))
        run = await harness.run_of(waits, event_id)
        await harness.send(Event("ordered", {"other": 1}, user={"id": 2}, ts=1_700_000_000_006, v="2"))
        assert await is_waiting(run) is (path != "name")
        await harness.send(Event("ordered", {"same": 1}, user={"id": 1}, ts=1_700_000_000_005, v="1"))
        assert await run.aresult("1s") == ({"other": 1} if path == "name" else {"same": 1})
        for other in await harness.runs(waits):
            await other.acancel()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
# Compiled here, since the first expression raises Python's limit of recursion, which Hypothesis watches.
EQUALITY = compile_expression("event.data.x == async.data.x", what="test", variables=("event", "async"))
LIKELY = st.sampled_from(
    [
        0,
        0.0,
        -0.0,
        1,
        1.0,
        True,
        "1",
        "",
        None,
        [],
        {},
        [1],
        [1.0],
        {"a": 1},
        {"a": 1.0},
        2**53,
        2.0**53,
        False,
    ]
)


@settings(max_examples=300, deadline=None)
@given(ours=VALUES | LIKELY, theirs=VALUES | LIKELY)
def test_match_is_short_for_the_equality_in_cel(ours: Any, theirs: Any) -> None:
    """S3.3: the index finds a wait exactly when `event.data.x == async.data.x` holds."""
    holds = EQUALITY.matches({"data": {"x": ours}}, {"data": {"x": theirs}})
    assert (token_for("data.x", ours) == token_for("data.x", theirs)) is holds


def test_a_path_leads_to_a_value_or_nowhere() -> None:
    """S3.3"""
    event = {"data": {"a": {"b": None}}}
    assert value_at(event, "data.a.b") is None
    assert value_at(event, "data.a") == {"b": None}
    assert value_at(event, "data.a.b.c") is MISSING
    assert value_at(event, "data.z") is MISSING
