"""Waits and events meet exactly once, in whatever order their scripts come. Rules S3.3, S3.4."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from taskflow.routing.waits import resume_waits
from taskflow.store.claimed import Claim
from taskflow.store.claims import ParkedOp, Verdict
from taskflow.store.hints import WorkHint
from taskflow.store.operation import Operation
from taskflow.store.routing import Arrival
from tests.store.scene import DAY_MS, EVENT, NOW_MS, OTHER, Scene, memo, signal_op, wait_op

CONDITION = "async.data.n == 1 || false"


class Router:
    """Routes one event, as a worker does: its record first, then the waits that it meets."""

    def __init__(self, scene: Scene, uid: str = "U1", name: str = "paid") -> None:
        self.scene = scene
        self.uid = uid
        self.name = name
        self.arrival: Arrival | None = None

    async def record(self) -> None:
        routed = await self.scene.route(self.uid, name=self.name)
        lookups = [entry.replace("\x1f", ":") for entry in routed.wait_paths]
        self.arrival = Arrival(self.uid, routed.seq, EVENT, lookups)

    async def find(self) -> None:
        assert self.arrival is not None
        routing = self.scene.store.routing
        found = await routing.find_waits([self.arrival], limit=100, now_ms=NOW_MS)
        for wait in found.open:
            await routing.resolve_wait(wait, self.arrival, now_ms=NOW_MS)


class Waiter:
    """A run that looks back and then waits, as the engine does; a page holds one event."""

    def __init__(self, scene: Scene, claim: Claim, wait: ParkedOp) -> None:
        self.scene = scene
        self.claim = claim
        self.wait = wait
        self.after_seq = 0
        self.found: list[str] = []
        self.is_stored = False

    async def look(self) -> None:
        """A turn; it is over once an event is found or the wait is stored."""
        if self.found or self.is_stored:
            return
        verdict, page = await self.scene.look_back(self.claim, self.wait, after_seq=self.after_seq, limit=1)
        self.is_stored = verdict is Verdict.PARKED
        if page:
            self.found.append(page[0].uid)


def interleavings(ours: int, theirs: int) -> Iterator[str]:
    """Every order of `ours` steps of the router (r) and `theirs` of the waiting run (w)."""
    for places in combinations(range(ours + theirs), theirs):
        yield "".join("w" if place in places else "r" for place in range(ours + theirs))


@pytest.mark.parametrize("condition", [None, CONDITION], ids=["equality", "condition"])
@pytest.mark.parametrize("order", list(interleavings(4, 2)))
async def test_with_lookback_an_event_meets_a_wait_exactly_once(
    scene: Scene, order: str, condition: str | None
) -> None:
    """S3.3: before, while or after the wait is stored; the event comes twice, by two routers."""
    claim = await scene.claimed_run()
    waiter = Waiter(scene, claim, wait_op(condition=condition))
    first, second = Router(scene), Router(scene)
    router_steps = iter((first.record, second.record, first.find, second.find))
    for who in order:
        await (waiter.look() if who == "w" else next(router_steps)())
    op = await scene.operation("paid") if waiter.is_stored else None
    resolved = op is not None and op.state == "done"
    assert [bool(waiter.found), resolved].count(True) == 1
    assert await scene.timers() == {}


@pytest.mark.parametrize("order", list(interleavings(4, 1)))
async def test_without_lookback_only_what_comes_after_the_wait_ends_it(scene: Scene, order: str) -> None:
    """S3.3: that is decided by which script came first, however late or often the event is looked up."""
    claim = await scene.claimed_run()
    first, second = Router(scene), Router(scene)
    router_steps = iter((first.record, first.find, second.record, second.find))
    for who in order:
        await (scene.park(claim, wait_op(), suspend=False) if who == "w" else next(router_steps)())
    op = await scene.operation("paid")
    assert op.state == ("done" if order[0] == "w" else "wait")


@pytest.mark.parametrize("order", list(interleavings(4, 3)))
async def test_the_oldest_event_wins_however_the_next_one_comes_between(scene: Scene, order: str) -> None:
    """S3.3: a younger event may end the wait only when it is stored, and then no older one is left."""
    await Router(scene, "U0", name="other").record()
    claim = await scene.claimed_run()
    waiter = Waiter(scene, claim, wait_op())
    old, young = Router(scene, "U1"), Router(scene, "U2")
    router_steps = iter((old.record, old.find, young.record, young.find))
    for who in order:
        await (waiter.look() if who == "w" else next(router_steps)())
    if waiter.is_stored:
        assert (await scene.operation("paid")).state == "done"
        assert b"resumed" in (await scene.store.history.event("U1")).values()
        assert b"resumed" not in (await scene.store.history.event("U2")).values()
    else:
        assert waiter.found == ["U1"]


async def test_a_look_back_goes_on_after_the_last_event_it_saw(scene: Scene) -> None:
    """S3.3: events of the last page that were routed meanwhile come with the next one."""
    claim = await scene.claimed_run()
    for uid in ("U1", "U2", "U3"):
        await Router(scene, uid).record()
    _, page = await scene.look_back(claim, limit=2)
    assert [past.uid for past in page] == ["U1", "U2"]
    await Router(scene, "U4").record()
    _, page = await scene.look_back(claim, after_seq=page[-1].seq, limit=2)
    assert [past.uid for past in page] == ["U3", "U4"]
    assert await scene.look_back(claim, after_seq=page[-1].seq) == (Verdict.PARKED, [])
    assert (await scene.operation("paid")).state == "wait"
    assert await scene.timers() == {"op r1 paid": 60_000}


async def test_a_look_back_begins_at_its_window(scene: Scene) -> None:
    """S3.3"""
    claim = await scene.claimed_run()
    for number in range(20):
        await Router(scene, f"U{number}").record()
        scene.now_ms += 1_000
    for since, first in ((0, 0), (NOW_MS + 7_000, 7), (NOW_MS + 7_001, 8), (NOW_MS + 19_000, 19)):
        _, page = await scene.look_back(claim, since_ms=since, limit=1)
        assert page[0].uid == f"U{first}"
    assert (await scene.look_back(claim, since_ms=NOW_MS + 19_001))[0] is Verdict.PARKED


async def test_a_page_of_large_events_is_cut_short(scene: Scene) -> None:
    """S3.3: a reply stays small, whatever events are like."""
    claim = await scene.claimed_run()
    for number in range(8):
        await Router(scene, f"U{number}").record()
        await scene.store.client.call("HSET", scene.store.keys.event(f"U{number}"), "event", "x" * 400_000)
    _, page = await scene.look_back(claim)
    assert [past.uid for past in page] == ["U0", "U1", "U2"]


async def test_a_look_back_is_fenced_off_and_sees_a_cancellation(scene: Scene) -> None:
    """S9.4, S6.2"""
    claim = await scene.claimed_run()
    await Router(scene).record()
    before = await scene.state()
    stale = Claim(claim.run_id, OTHER, claim.fence)
    assert await scene.look_back(stale) == (Verdict.FENCED, [])
    assert await scene.claims.note_resumed(stale, "paid", "U1") == 0
    assert await scene.state() == before
    await scene.cancel()
    assert await scene.look_back(claim) == (Verdict.CANCEL, [])
    assert "waits:paid:" not in await scene.keys()


async def test_an_event_that_many_wait_for_is_looked_up_in_parts(scene: Scene) -> None:
    """S3.3: each script looks at a limited number of waits, and says where to go on."""
    for number in range(250):
        await scene.park(await scene.claimed_run(f"r{number}"), wait_op(names=("paid", "pa*")))
    router = Router(scene)
    await router.record()
    other = Router(scene, "U2", name="other")
    await other.record()
    assert router.arrival is not None and other.arrival is not None
    assert router.arrival.lookups == ["paid:", "pa*:"]
    arrivals, cursor, looks = [other.arrival, router.arrival], b"0", 0
    while True:
        found = await scene.store.routing.find_waits(arrivals, limit=20, cursor=cursor, now_ms=NOW_MS)
        looks += 1
        if found.rest is None:
            break
        place, lookup, cursor = found.rest
        first = arrivals[place]
        arrivals = [Arrival(first.uid, first.seq, first.text, first.lookups[lookup:]), *arrivals[place + 1 :]]
    assert 2 < looks < 30
    assert {(await scene.operation("paid", f"r{number}")).state for number in range(250)} == {"done"}
    assert not [key for key in await scene.keys() if key.startswith("wait")]


@pytest.mark.parametrize("condition", [None, "async.data.n > 0"])
async def test_events_of_a_batch_resume_all_their_waits_in_parts(scene: Scene, condition: str | None) -> None:
    """S3.3: where a part ends, the next one goes on, with the waits of that event and with the next events."""
    names = [("one", "paid"), ("one",), ("paid",)]
    for number in range(450):
        wait = wait_op(names=names[number % 3], condition=condition)
        await scene.park(await scene.claimed_run(f"r{number}"), wait)
    arrivals, events = [], []
    for n, name in enumerate(("one", "other", "paid"), start=0):
        router = Router(scene, f"U{n}", name=name)
        await router.record()
        assert router.arrival is not None
        arrivals.append(router.arrival._replace(text=name.encode()))
        events.append({"name": name, "data": {"n": n}})
    hints = await resume_waits(scene.store.routing, arrivals, events, now_ms=lambda: NOW_MS + 5_000, limit=20)
    assert set(hints) == {WorkHint("shop", "default")}
    ended = [(await scene.operation("paid", f"r{number}")).data for number in range(450)]
    # With the condition, the first event (n = 0) meets nobody.
    first, second, third = ("one", "one", "paid") if condition is None else ("paid", None, "paid")
    assert ended == [first, second, third] * 150


async def test_an_event_without_waits_looks_nothing_up(scene: Scene) -> None:
    """S3.3"""
    await scene.park(await scene.claimed_run(), wait_op(names=("paid", "shop/*")), suspend=False)
    for name, expected in (("other", []), ("paid", ["paid\x1f"]), ("shop/a", ["shop/*\x1f"]), ("shop", [])):
        assert (await scene.route(f"U-{name}", name=name)).wait_paths == expected


async def test_the_index_of_events_goes_with_them(scene: Scene) -> None:
    """S10.1"""
    await scene.register(retention_ms=1_500)
    for uid, name in (("U1", "paid"), ("U2", "paid"), ("U3", "other")):
        await scene.route(uid, name=name)
        scene.now_ms += 1_000

    async def trimmed() -> set[str]:
        await scene.store.duties.trim_history(event_retention_ms=DAY_MS, limit=100, now_ms=scene.now_ms + 150)
        return {key for key in await scene.keys() if key.startswith(("events", "event_names", "event:"))}

    assert await trimmed() == {"events:other", "event_names", "event:U3"}
    assert await scene.value_of(f"{scene.store.keys.prefix}event_names") == {b"other": NOW_MS + 2_000}
    scene.now_ms += 1_000
    assert await trimmed() == set()


async def test_a_second_app_that_routes_an_event_adds_nothing_to_its_index(scene: Scene) -> None:
    """S3.3, S1.6"""
    await scene.route("U1", name="paid")
    await scene.route("U9", name="paid")
    before = await scene.value_of(scene.store.keys.events("paid"))
    assert [entry[1] for entry in before] == [[b"u", b"U1"], [b"u", b"U9"]]
    await scene.route("U1", name="paid", app_id="risk")
    assert await scene.value_of(scene.store.keys.events("paid")) == before


async def test_a_long_index_of_events_is_trimmed_in_parts(scene: Scene) -> None:
    """S10.1: the oldest first, over all names."""
    await scene.register(retention_ms=1_000)
    for number in range(25):
        await scene.route(f"U{number:02}", name=("paid", "other")[number % 2])
        scene.now_ms += 100
    removed, kept = [], []
    while True:
        removed.append(
            await scene.store.duties.trim_history(
                event_retention_ms=DAY_MS, limit=5, now_ms=scene.now_ms + 100
            )
        )
        kept.append(sorted(await scene.store.history.recent_events(limit=100)))
        if removed[-1] < 5:
            break
    assert (sum(removed), len(kept[0])) == (16, 20)
    assert kept[-1] == [f"U{number:02}" for number in range(16, 25)]
    assert sum(key.startswith("event:") for key in await scene.keys()) == 9


async def test_events_of_the_last_while_are_listed_newest_first(scene: Scene) -> None:
    """S10.2"""
    for number in range(6):
        await scene.route(f"U{number}", name=("paid", "other")[number % 2])
    assert await scene.store.history.recent_events(limit=4) == ["U5", "U4", "U3", "U2"]


# --- signals ---


async def test_a_signal_sent_again_does_not_reach_the_next_waiter(scene: Scene) -> None:
    """S3.4: the first reply was lost, and the run waits for the same name again by then."""

    async def send(uid: str) -> str | None:
        run_id, _ = await scene.store.routing.send_signal("shop\x1fgo", b'"x"', uid=uid, now_ms=NOW_MS)
        return run_id

    claim = await scene.claimed_run()
    await scene.park(claim, signal_op("one"), suspend=False)
    assert await send("S1") == "r1"
    await scene.park(claim, signal_op("two"), suspend=False)
    assert await send("S1") == "r1"
    assert (await scene.operation("two")).state == "wait"
    assert await send("S2") == "r1"
    assert (await scene.operation("two")).state == "done"
    assert await send("S3") is None


async def test_a_signal_whose_holder_is_gone_is_free(scene: Scene) -> None:
    """S3.4: as after a store that lost data."""
    await scene.park(await scene.claimed_run("old"), signal_op())
    await scene.store.client.call("DEL", scene.store.keys.run("old"), scene.store.keys.steps("old"))
    assert (await scene.store.routing.send_signal("shop\x1fgo", b"1", uid="S1", now_ms=NOW_MS))[0] is None
    claim = await scene.claimed_run("new")
    assert await scene.park(claim, signal_op()) is Verdict.PARKED
    assert (await scene.operation("go", "new")).state == "wait"
    await scene.clear()


async def test_a_run_that_finds_its_signal_taken_does_not_suspend(scene: Scene) -> None:
    """S3.4: it has an error to meet."""
    await scene.park(await scene.claimed_run("first"), signal_op())
    claim = await scene.claimed_run("second")
    assert await scene.park(claim, signal_op()) is Verdict.DIRTY
    _, packed = await scene.claims.fetch_resolved(claim, ["go"])
    assert packed[0] is not None
    op = Operation.unpack(packed[0])
    assert (op.state, op.due) == ("failed", None)
    assert op.error is not None and op.error["name"] == "SignalConflict"
    assert await scene.timers() == {"op first go": 60_000}


@pytest.mark.parametrize("end", ["finish", "cancel", "drop", "timeout"])
async def test_whatever_ends_a_wait_for_a_signal_frees_its_name(scene: Scene, end: str) -> None:
    """S3.4"""
    claim = await scene.claimed_run()
    await scene.park(claim, signal_op(), suspend=end in ("cancel", "timeout"))
    assert "signals" in await scene.keys()
    acts: dict[str, Any] = {
        "finish": lambda: scene.finish(claim),
        "cancel": lambda: scene.cancel(),
        "drop": lambda: scene.claims.drop(claim, "go", memo(state="dropped"), now_ms=NOW_MS),
        "timeout": lambda: scene.fire(),
    }
    scene.now_ms += 60_000
    await acts[end]()
    assert "signals" not in await scene.keys()
    assert await scene.timers() == {}
