"""Every atomic operation may be sent twice: after a lost connection nobody knows whether it was carried out.

The store is the same after the second time, whatever the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest

from taskflow.call_plans import CallPlan, PlannedCall
from taskflow.redis.scripts import load_scripts
from taskflow.store.bulk import BulkStatus, DueCancel, StoredBulk
from taskflow.store.claimed import Claim
from taskflow.store.claims import InvokedRun, ParkedOp, Verdict
from taskflow.store.control import KeptSteps
from taskflow.store.duties import Fence
from taskflow.store.listing import Place
from taskflow.store.refusals import RefusedEvent
from taskflow.store.routing import Arrival, EventPlan, RunPlan
from taskflow.store.store import PACKAGE
from taskflow.store.webhooks import DeliveryOutcome, StoredRequest
from taskflow.types import RunId
from tests.store.scene import (
    CHILD,
    DAY_MS,
    ERROR,
    EVENT,
    FN,
    NOW_MS,
    OTHER,
    Scene,
    memo,
    news_uid,
    offer_op,
    retry_op,
    signal_op,
    sleep_op,
    wait_op,
)  # fmt: skip

Act = Callable[[Scene], Awaitable[Any]]
CHILD_RUN = InvokedRun("shop/child", "default", RunId("c1"), EVENT, 5_000, 9_000)


def claim_of(run_id: str = "r1", fence: int = 1, child_id: str = CHILD) -> Claim:
    return Claim(RunId(run_id), child_id, fence)


class Case:
    """`act` is done twice, after `prepare`."""

    def __init__(self, act: Act, prepare: Act | None = None) -> None:
        self.act = act
        self.prepare = prepare


async def claimed(scene: Scene) -> None:
    await scene.claimed_run(start_timeout_ms=5_000, finish_timeout_ms=9_000)


async def parked(scene: Scene) -> None:
    """A run with one of each: a sleep, a wait, an offered step and an invoked child."""
    claim = await scene.claimed_run(finish_timeout_ms=90_000)
    ops = (sleep_op(), wait_op(), offer_op("offered"), ParkedOp("child", sleep_op().packed, CHILD_RUN))
    assert await scene.park(claim, *ops, suspend=False) is Verdict.PARKED


async def suspended(scene: Scene) -> None:
    await parked(scene)
    assert await scene.park(claim_of(), suspend=True) is Verdict.PARKED


async def offer_taken(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    await scene.claim_one(OTHER)


HOOK = StoredRequest(
    id="W1", webhook="shop/github", at_ms=NOW_MS, url="http://x/", headers={}, query={}, body=b"{}", size=2, delivery=None
)  # fmt: skip


async def bulk_running(scene: Scene) -> None:
    await scene.make_run("r1")
    await scene.make_run("r2")
    await scene.store.bulks.create("B1", b"{}", now_ms=NOW_MS)


async def advance_bulk(scene: Scene) -> None:
    """The portion that was read first, each time."""
    bulk = StoredBulk(
        id="B1", asked=b"{}", status=BulkStatus.RUNNING, turn=0, place=None, looked=0, done=0, failed=0, problems=b"[]",
        ended_ms=None,
    )  # fmt: skip
    due = [DueCancel("r1", f"{NOW_MS}-r1")]
    await scene.store.bulks.advance(
        bulk, place=Place(NOW_MS, "r1"), reason=ERROR, cancelled=due, now_ms=NOW_MS
    )


async def refuse(scene: Scene, *, ends: bool) -> None:
    """The run's event does not fit, and is kept as a dead letter: once."""
    refused = [RefusedEvent("E-r1", "no count")]
    verdict, _ = await scene.store.refusals.refuse(
        claim_of(), refused, ends=ends, is_dead_letter=True, now_ms=NOW_MS
    )
    assert verdict is Verdict.OK
    letters = await scene.store.history.dead_letters(limit=5)
    assert [(letter["reason"], b"name" in letter["body"]) for letter in letters] == [(b"no count", True)]


async def retry_due(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(due_ms=NOW_MS), suspend=False)


async def leading(scene: Scene) -> None:
    await scene.store.duties.lead("beat-1", now_ms=NOW_MS, term_ms=8_000)


async def finished_long_ago(scene: Scene) -> None:
    await scene.register(retention_ms=1_000)
    await scene.route("U1", "r1", free=1)
    await scene.finish(claim_of())
    scene.now_ms += DAY_MS


async def offer_and_commit(scene: Scene, packed: bytes) -> Any:
    return await scene.claims.commit_offered(claim_of(child_id=OTHER), "one", packed, now_ms=NOW_MS)


async def take_cron(scene: Scene) -> Any:
    plan = RunPlan("shop/work", "default", RunId("tick-1"), 0, 5_000, 9_000)
    return await scene.store.duties.fire_cron(
        "shop/work\x1f* * * * *",
        NOW_MS,
        fence=Fence(1),
        plan=plan,
        event=EVENT,
        version="1",
        now_ms=NOW_MS,
    )


async def find_waits(scene: Scene) -> Any:
    arrival = Arrival("U9", 1_000, EVENT, ["paid:"])
    return await scene.store.routing.find_waits([arrival], limit=100, now_ms=NOW_MS)


async def event_routed(scene: Scene) -> None:
    await claimed(scene)
    await scene.route("U9", name="paid")


async def signal_awaited(scene: Scene) -> None:
    await scene.park(await scene.claimed_run("r0"), signal_op())
    await claimed(scene)


async def send_signal(scene: Scene) -> Any:
    return await scene.store.routing.send_signal("shop\x1fgo", b"{}", uid="S1", now_ms=NOW_MS)


def call(name: str, **named: Any) -> Act:
    return lambda scene: getattr(scene.store.scripts, name)(**named)


CASES: dict[str, Case] = {
    "abdicate": Case(call("abdicate", beat_id="beat-1"), leading),
    "cancel_runs, executing": Case(lambda scene: scene.cancel(), claimed),
    "cancel_runs, suspended": Case(lambda scene: scene.cancel(), suspended),
    "cancel_runs, queued": Case(lambda scene: scene.cancel(), lambda scene: scene.make_run(start_timeout_ms=5_000)),
    "resolve_wait, a cancellation": Case(
        call("resolve_wait", now_ms=NOW_MS, run_id="", step_key="r1\x1f1", event=EVENT, uid="U9"),
        lambda scene: scene.make_run(flow=cancellable())
    ),
    "find_waits, a cancellation": Case(find_waits, lambda scene: scene.make_run(flow=cancellable())),
    "finish_runs, with cancel events": Case(
        lambda scene: scene.finish(claim_of(), pending=False), lambda scene: scene.claimed_run(flow=cancellable())
    ),
    "route_events, with cancel events": Case(lambda scene: scene.route("U1", "r1", flow=cancellable())),
    "route_events, a debounce with cancel events": Case(
        lambda scene: scene.route("U2", "r2", flow=cancellable(debounce=["shop/work:", 9_000, 0, NOW_MS, "U2"])),
        lambda scene: scene.route("U1", "r1", flow=cancellable(debounce=["shop/work:", 9_000, 0, NOW_MS, "U1"])),
    ),
    "cancel_runs, scheduled": Case(
        lambda scene: scene.cancel(), lambda scene: scene.make_run(start_at_ms=NOW_MS + 1, start_timeout_ms=5_000)
    ),
    "check_version": Case(call("check_version", version="2", secret="of the first")),
    "claim_runs": Case(lambda scene: scene.claim(), lambda scene: scene.make_run(start_timeout_ms=5_000, finish_timeout_ms=9_000)),
    "claim_runs, by a hint": Case(lambda scene: scene.claim(by_hint=True), lambda scene: scene.make_run()),
    "claim_runs, an offered step": Case(lambda scene: scene.claim(OTHER), parked),
    "clear_outbox": Case(
        call("clear_outbox", uids=[news_uid()]), lambda scene: fail_with_news(scene)
    ),
    "commit_offered, done": Case(lambda scene: offer_and_commit(scene, memo()), offer_taken),
    "commit_offered, failed": Case(lambda scene: offer_and_commit(scene, memo(state="failed")), offer_taken),
    "commit_offered, to be retried": Case(lambda scene: offer_and_commit(scene, retry_op().packed), offer_taken),
    "begin_trial": Case(lambda scene: scene.begin_trial(claim_of()), claimed),
    "commit_steps": Case(lambda scene: scene.commit(claim_of()), claimed),
    "commit_steps, failed": Case(lambda scene: scene.commit(claim_of(), state="failed"), claimed),
    "drop_operations": Case(
        call(
            "drop_operations", now_ms=NOW_MS, child_id=CHILD, run_id="r1", fence=1,
            operations=[(key, memo(state="dropped")) for key in ("nap", "paid", "offered", "child", "unknown")],
        ),
        parked,
    ),
    **{
        f"forget_operation, {step_key}": Case(
            call("forget_operation", now_ms=NOW_MS, child_id=CHILD, run_id="r1", fence=1, step_key=step_key, kind=kind), parked,
        )
        for step_key, kind in {"nap": "step", "paid": "step", "offered": "sleep", "child": "event"}.items()
    },
    "fetch_resolved": Case(lambda scene: scene.claims.fetch_resolved(claim_of(), ["nap", "gone"]), parked),
    "find_lost": Case(
        call("find_lost", now_ms=NOW_MS + 9_000, hint_age_ms=3_000, event_age_ms=5_000, silence_ms=11_000),
        lambda scene: fail_with_news(scene),
    ),
    "find_waits": Case(find_waits, suspended),
    "finish_runs, completed": Case(lambda scene: scene.finish(claim_of()), parked),
    "finish_runs, at once": Case(
        lambda scene: scene.finish(claim_of(), pending=False), lambda scene: scene.claimed_run()
    ),
    "finish_runs, failed": Case(lambda scene: scene.finish(claim_of(), "failed"), parked),
    "finish_runs, cancelled": Case(lambda scene: scene.finish(claim_of(), "cancelled"), parked),
    "fire_cron": Case(take_cron, leading),
    "fire_timers, a sleep": Case(lambda scene: at(scene, NOW_MS + 60_000).fire(), suspended),
    "fire_timers, a retry": Case(lambda scene: scene.fire(), retry_due),
    "fire_timers, a start": Case(
        lambda scene: at(scene, NOW_MS + 5).fire(), lambda scene: scene.make_run(start_at_ms=NOW_MS + 5)
    ),
    "fire_timers, a timeout": Case(lambda scene: at(scene, NOW_MS + 9_000).fire(), claimed),
    "fire_timers, a debounced start": Case(
        lambda scene: at(scene, NOW_MS + 9_000).fire(),
        lambda scene: scene.route("U1", "r1", flow=packed(debounce=["shop/work:", 9_000, 0, NOW_MS, "U1"])),
    ),
    "fire_timers, a batch": Case(lambda scene: at(scene, NOW_MS + 9_000).fire(), lambda scene: gather(scene)),
    "finish_runs, a singleton that another waits for": Case(
        lambda scene: scene.finish(claim_of(), "cancelled"), lambda scene: wait_for_singleton(scene)
    ),
    "forget_worker": Case(
        call("forget_worker", worker_id="host-a", silent_since_ms=""), lambda scene: scene.heartbeat("host-a", CHILD)
    ),
    "hand_back": Case(lambda scene: scene.hand_back(), parked),
    "hand_back, crashed": Case(lambda scene: scene.hand_back(crashed=True), parked),
    "hand_back, a step": Case(lambda scene: scene.hand_back(OTHER, crashed=True), offer_taken),
    "hand_back, one run": Case(lambda scene: scene.hand_back(CHILD, "r1"), claimed),
    "heartbeat": Case(lambda scene: scene.heartbeat("host-a", CHILD, "host-a:2")),
    "lead": Case(lambda scene: scene.store.duties.lead("beat-1", now_ms=NOW_MS, term_ms=8_000)),
    "lead, after another": Case(
        lambda scene: scene.store.duties.lead("beat-2", now_ms=NOW_MS + 8_000, term_ms=8_000), leading
    ),
    "look_back": Case(lambda scene: scene.look_back(claim_of(), since_ms=NOW_MS + 1), event_routed),
    "note_resumed": Case(lambda scene: scene.claims.note_resumed(claim_of(), "paid", "U9"), event_routed),
    "park_run, a signal": Case(lambda scene: scene.park(claim_of(), signal_op()), claimed),
    "park_run, a signal that is taken": Case(lambda scene: scene.park(claim_of(), signal_op()), signal_awaited),
    "park_run, a signal is taken over": Case(
        lambda scene: scene.park(claim_of(), signal_op(replaces=True)), signal_awaited
    ),
    "send_signal": Case(send_signal, signal_awaited),
    "park_run, stay": Case(
        lambda scene: scene.park(claim_of(), sleep_op(), wait_op(), offer_op("offered"), suspend=False), claimed
    ),
    "park_run, suspend": Case(
        lambda scene: scene.park(
            claim_of(), sleep_op(), wait_op(), ParkedOp("child", sleep_op().packed, CHILD_RUN), joins={"nap": 0, "paid": 0}
        ),
        claimed,
    ),
    "park_run, a retry": Case(lambda scene: scene.park(claim_of(), retry_op(), suspend=False), claimed),
    "pause_function": Case(
        lambda scene: scene.store.steering.pause("shop/work", now_ms=NOW_MS), lambda scene: scene.make_run()
    ),
    "create_bulk": Case(lambda scene: scene.store.bulks.create("B1", b"{}", now_ms=NOW_MS)),
    "advance_bulk": Case(advance_bulk, bulk_running),
    "stop_bulk": Case(lambda scene: scene.store.bulks.stop("B1", now_ms=NOW_MS), bulk_running),
    "keep_webhook": Case(lambda scene: scene.store.webhooks.keep(HOOK)),
    "settle_webhook": Case(
        lambda scene: scene.store.webhooks.settle("W1", DeliveryOutcome.SENT, events=["E1"]),
        lambda scene: scene.store.webhooks.keep(HOOK),
    ),
    "list_runs": Case(lambda scene: scene.store.listing.page(None, limit=5), lambda scene: scene.make_run()),
    "count_runs": Case(lambda scene: scene.store.listing.count(None), lambda scene: scene.make_run()),
    "create_key": Case(lambda scene: scene.store.clients.create_key("web", b"{}")),
    "note_key_use": Case(
        lambda scene: scene.store.clients.note_key_use("web", now_ms=NOW_MS),
        lambda scene: scene.store.clients.create_key("web", b"{}"),
    ),
    "revoke_key": Case(
        lambda scene: scene.store.clients.revoke_key("web"), lambda scene: scene.store.clients.create_key("web", b"{}")
    ),
    "spend_key_rate": Case(
        lambda scene: scene.store.clients.spend_key_rate("web", "r1", events=3, limit=5, period_ms=1_000, now_ms=NOW_MS)
    ),
    "publish_message": Case(
        lambda scene: scene.store.messages.publish(
            "order:A1", "status", b"1", run_id="r1", uid="M1", known_ms=60_000, now_ms=NOW_MS
        )
    ),
    "keep_request": Case(lambda scene: scene.store.clients.keep_request("k1", "f1", uid="E1")),
    "pause_queue": Case(
        lambda scene: scene.store.steering.pause_queue("shop", "default", now_ms=NOW_MS), lambda scene: scene.make_run()
    ),
    "resume_queue": Case(
        lambda scene: scene.store.steering.resume_queue("shop", "default", now_ms=NOW_MS), lambda scene: paused_queue(scene)
    ),
    "refuse_events": Case(lambda scene: refuse(scene, ends=True), claimed),
    "refuse_events, of a batch": Case(lambda scene: refuse(scene, ends=False), claimed),
    "rerun_run": Case(lambda scene: rerun(scene), lambda scene: ended(scene)),
    "resume_function": Case(
        lambda scene: scene.store.steering.resume("shop/work", now_ms=NOW_MS), lambda scene: paused(scene)
    ),
    "register_app": Case(lambda scene: scene.register()),
    "resolve_wait": Case(call("resolve_wait", now_ms=NOW_MS, run_id="r1", step_key="paid", event=EVENT, uid="U9"), suspended),
    "retry_run": Case(lambda scene: scene.retry(claim_of()), claimed),
    "route_events": Case(lambda scene: scene.route("U1", "r1", "r2", public_id="mine")),
    "route_events, claimed": Case(lambda scene: scene.route("U1", "r1", "r2", free=1)),
    "route_events, a duplicate": Case(
        lambda scene: scene.route("U2", "r2", public_id="mine"), lambda scene: scene.route("U1", "r1", public_id="mine")
    ),
    "route_events, limits": Case(
        lambda scene: scene.route(
            "U1", "r1", flow=packed(rate=["shop/work:", 1_000, 1], idem="shop/work:7", single=["shop/work:", "skip"])
        )
    ),
    "route_events, a refusal": Case(
        lambda scene: scene.route("U2", "r2", flow=packed(idem="shop/work:7")),
        lambda scene: scene.route("U1", "r1", flow=packed(idem="shop/work:7")),
    ),
    "route_events, a singleton that takes over": Case(
        lambda scene: scene.route("U2", "r2", flow=packed(single=["shop/work:", "cancel"])),
        lambda scene: scene.route("U1", "r1", flow=packed(single=["shop/work:", "cancel"])),
    ),
    "route_events, a debounce": Case(
        lambda scene: scene.route("U2", "r2", flow=packed(debounce=["shop/work:", 9_000, 0, NOW_MS, "U2"])),
        lambda scene: scene.route("U1", "r1", flow=packed(debounce=["shop/work:", 9_000, 0, NOW_MS, "U1"])),
    ),
    "route_events, a batch": Case(
        lambda scene: scene.route("U3", "r3", flow=packed(batch=["shop/work:", 3, 9_000])), lambda scene: gather(scene)
    ),
    "start_calls": Case(lambda scene: start_calls(scene)),
    "start_calls, with an id": Case(lambda scene: start_calls(scene, chosen_id="order-7")),
    "start_calls, with all there is": Case(
        lambda scene: start_calls(scene, start_at_ms=NOW_MS + 5, start_timeout_ms=9_000, expires_at_ms=NOW_MS + 9_005, keep="1000 ")
    ),
    "start_calls, debounced": Case(
        lambda scene: start_calls(scene, "t2", flow=packed(debounce=["shop/work:", 9_000, 0, NOW_MS, "U2"])),
        lambda scene: start_calls(scene, "t1", flow=packed(debounce=["shop/work:", 9_000, 0, NOW_MS, "U1"])),
    ),
    "note_progress": Case(lambda scene: scene.claims.note_progress(claim_of(), b'{"done":1}'), claimed),
    "start_run, skipped": Case(
        lambda scene: scene.make_run("r2", flow=packed(single=["shop/work:", "skip"])),
        lambda scene: scene.make_run("r1", flow=packed(single=["shop/work:", "skip"])),
    ),
    "start_run": Case(lambda scene: scene.make_run(start_timeout_ms=5_000, finish_timeout_ms=9_000)),
    "start_run, delayed": Case(lambda scene: scene.make_run(start_at_ms=NOW_MS + 5, start_timeout_ms=5_000)),
    "trim_history": Case(
        lambda scene: scene.store.duties.trim_history(event_retention_ms=1_000, limit=100, now_ms=scene.now_ms),
        finished_long_ago,
    ),
    "watch_run": Case(lambda scene: scene.store.steering.watch("r1"), claimed),
    "withdraw_offer": Case(lambda scene: scene.claims.withdraw_offer(claim_of(), "offered", now_ms=NOW_MS), parked),
}  # fmt: skip


async def start_calls(scene: Scene, *run_ids: str, flow: bytes = b"", **options: Any) -> None:
    plan = CallPlan(
        FN, "default", options.get("start_at_ms", 0), options.get("start_timeout_ms", 0), 0, options.get("expires_at_ms", 0),
        options.get("keep", ""), options.get("chosen_id", ""),
    )  # fmt: skip
    digest = "d" if plan.chosen_id else ""
    calls = [PlannedCall(RunId(run_id), flow, EVENT, digest) for run_id in run_ids or ("t1",)]
    await scene.store.routing.start_calls(plan, calls, version="1", now_ms=NOW_MS)


def packed(**flow: Any) -> bytes:
    """Flow control as `FlowControl.plan` packs it."""
    table: bytes = msgpack.packb(flow, use_bin_type=False)
    return table


def cancellable(**flow: Any) -> bytes:
    """Flow control of a run that events `paid` cancel."""
    return packed(cancels=[{"events": ["paid"], "timeout_ms": 60_000}], **flow)


async def gather(scene: Scene) -> None:
    for uid, run_id in (("U1", "r1"), ("U2", "r2")):
        await scene.route(uid, run_id, flow=packed(batch=["shop/work:", 3, 9_000]))


async def wait_for_singleton(scene: Scene) -> None:
    await scene.claimed_run("r1", flow=packed(single=["shop/work:", "cancel"]))
    await scene.make_run("r2", flow=packed(single=["shop/work:", "cancel"]))
    assert await scene.status("r2") == "scheduled"


async def fail_with_news(scene: Scene) -> None:
    await scene.finish(await scene.claimed_run(), "failed")


async def ended(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.commit(claim)
    await scene.finish(claim, "failed")


async def paused(scene: Scene) -> None:
    await scene.make_run()
    await scene.store.steering.pause("shop/work", now_ms=NOW_MS)


async def paused_queue(scene: Scene) -> None:
    await scene.make_run()
    await scene.store.steering.pause_queue("shop", "default", now_ms=NOW_MS - 1)


async def rerun(scene: Scene) -> Any:
    plan = RunPlan("shop/work", "default", RunId("r2"), 0, 5_000, 9_000)
    return await scene.store.steering.rerun(
        "r1", plan, cause="rerun", steps=KeptSteps(["one"], 1), now_ms=NOW_MS
    )


def at(scene: Scene, now_ms: int) -> Scene:
    scene.now_ms = now_ms
    return scene


def test_every_script_is_repeated() -> None:
    """A new script needs a case here."""
    assert {name.partition(",")[0] for name in CASES} == set(load_scripts(PACKAGE))


@pytest.mark.parametrize("name", CASES)
async def test_the_second_time_changes_nothing(scene: Scene, name: str) -> None:
    """S9.5: what had no reply is sent again after a reconnection."""
    case = CASES[name]
    if case.prepare is not None:
        await case.prepare(scene)
    before = await scene.state()
    await case.act(scene)
    once = await scene.state()
    await case.act(scene)
    assert await scene.state() == once
    if name.partition(",")[0] not in ("check_version", "fetch_resolved", "list_runs", "count_runs"):
        assert once != before, "the first time did nothing, so this proves nothing"


# --- repeats that come late: others have gone on meanwhile ---


async def test_a_step_offered_again_late_is_not_executed_again(scene: Scene) -> None:
    """S4.1: the connection was lost for so long that another process has executed the step before the repeat."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    taken = (await scene.claim_one(OTHER)).claim
    await scene.claims.commit_offered(taken, "one", memo(), now_ms=NOW_MS)
    before = await scene.state()
    await scene.park(claim, offer_op(), suspend=False)
    assert (await scene.operation("one")).state == "done"
    assert await scene.state() == before


async def test_a_step_taken_back_twice_is_the_owners_both_times(scene: Scene) -> None:
    """S9.5: the first reply was lost. "Somebody has taken it" would make the owner wait for ever."""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    for _ in range(2):
        is_ours, _ = await scene.claims.withdraw_offer(claim, "one", now_ms=NOW_MS)
        assert is_ours


async def test_failed_attempts_of_a_step_that_is_taken_back_still_count(scene: Scene) -> None:
    """S5.1: should the owner die before it has executed the step. A repeat sends the owner to the store, where the step is due."""
    failed = [NOW_MS, NOW_MS, CHILD, "ValueError", "broken", ""]
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(attempts=[failed]), suspend=False)
    for expected in (True, False):
        is_ours, _ = await scene.claims.withdraw_offer(claim, "one", now_ms=NOW_MS)
        assert is_ours == expected
        op = await scene.operation("one")
        assert (op.state, op.attempts) == ("due", [failed])
    assert not (await scene.claim(OTHER)).runs, "it is still offered"


async def test_a_step_that_another_process_has_is_not_taken_back(scene: Scene) -> None:
    """S4.4"""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    await scene.claim_one(OTHER)
    is_ours, _ = await scene.claims.withdraw_offer(claim, "one", now_ms=NOW_MS)
    assert not is_ours


async def test_a_step_offered_again_late_is_not_taken_from_who_has_it(scene: Scene) -> None:
    """S4.1"""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    await scene.claim_one(OTHER)
    before = await scene.state()
    await scene.park(claim, offer_op(), suspend=False)
    assert await scene.state() == before


async def test_a_retry_parked_again_late_stays_due(scene: Scene) -> None:
    """S5.1: it fell due before the repeat came; a second wait would be one too many."""
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(), suspend=False)
    at(scene, NOW_MS + 10_000)
    await scene.fire()
    assert (await scene.operation("one")).state == "due"
    before = await scene.state()
    await scene.park(claim, retry_op(), suspend=False)
    assert await scene.state() == before


async def test_a_retry_that_comes_after_its_step_has_ended_changes_nothing(scene: Scene) -> None:
    """S4.1: a memo is written once."""
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(), suspend=False)
    at(scene, NOW_MS + 10_000)
    await scene.fire()
    await scene.commit(claim)
    before = await scene.state()
    await scene.park(claim, retry_op(failures=2, due_ms=NOW_MS + 30_000), suspend=False)
    assert await scene.state() == before


async def test_the_next_retry_of_a_step_is_no_repeat(scene: Scene) -> None:
    """S5.1: it has one failed attempt more."""
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(), suspend=False)
    at(scene, NOW_MS + 10_000)
    await scene.fire()
    await scene.park(claim, retry_op(failures=2, due_ms=NOW_MS + 30_000), suspend=False)
    op = await scene.operation("one")
    assert (op.state, op.due, len(op.attempts)) == ("retry", NOW_MS + 30_000, 2)
    assert await scene.timers() == {"op r1 one": 20_000}


async def test_a_step_whose_retry_is_due_may_be_offered(scene: Scene) -> None:
    """S4.4, S5.1"""
    claim = await scene.claimed_run()
    await scene.park(claim, retry_op(due_ms=NOW_MS), suspend=False)
    await scene.fire()
    await scene.park(claim, offer_op(), suspend=False)
    assert (await scene.operation("one")).state == "offer"
    assert (await scene.claim_one(OTHER)).step_key == "one"


async def test_a_sleep_parked_again_late_stays_over(scene: Scene) -> None:
    """S3.2"""
    claim = await scene.claimed_run()
    await scene.park(claim, sleep_op(due_ms=NOW_MS), suspend=False)
    await scene.fire()
    before = await scene.state()
    await scene.park(claim, sleep_op(due_ms=NOW_MS), suspend=False)
    assert await scene.state() == before


async def test_a_wait_parked_again_late_stays_resolved(scene: Scene) -> None:
    """S3.3"""
    claim = await scene.claimed_run()
    await scene.park(claim, wait_op(), suspend=False)
    await find_waits(scene)
    before = await scene.state()
    await scene.park(claim, wait_op(), suspend=False)
    assert await scene.state() == before


async def test_an_invoke_parked_again_late_starts_no_second_child(scene: Scene) -> None:
    """S3.6: not even when the child has ended by then."""
    claim = await scene.claimed_run()
    invoke = ParkedOp("child", sleep_op().packed, CHILD_RUN)
    await scene.park(claim, invoke, suspend=False)
    child = (await scene.claim_one(OTHER)).claim
    await scene.finish(child)
    before = await scene.state()
    await scene.park(claim, invoke, suspend=False)
    assert await scene.state() == before


async def test_an_event_routed_again_late_restarts_nothing(scene: Scene) -> None:
    """S9.1: its run has ended, or is somewhere else, by then."""
    routed = await scene.route("U1", "r1", "r2", free=1)
    assert routed.claimed == {"r1": 1}
    await scene.finish(claim_of("r1"))
    await scene.claim_one(OTHER)
    before = await scene.state()
    assert (await scene.route("U1", "r1", "r2", free=2)).claimed == {}
    assert await scene.state() == before


async def test_a_child_that_missed_the_reply_gets_its_run_by_routing_again(scene: Scene) -> None:
    """S9.1: the claim stands, with the fence of the first time."""
    assert (await scene.route("U1", "r1", free=1)).claimed == {"r1": 1}
    assert (await scene.route("U1", "r1", free=1)).claimed == {"r1": 1}


async def test_a_child_is_told_again_of_no_more_runs_than_it_has_slots_for(scene: Scene) -> None:
    """S9.1: the message came twice; each run that it is told of takes a slot that was set aside."""
    assert (await scene.route("U1", "r1", "r2", free=2)).claimed == {"r1": 1, "r2": 1}
    assert (await scene.route("U1", "r1", "r2", free=1)).claimed == {"r1": 1}
    assert (await scene.route("U1", "r1", "r2", free=0)).claimed == {}


async def test_an_event_that_came_twice_in_one_batch_takes_one_slot(scene: Scene) -> None:
    """S9.1"""
    runs = [RunPlan(FN, "default", RunId("r1"), is_claimable=True)]
    plan = EventPlan.of("U1", "", "order", EVENT, runs)
    routed, _ = await scene.store.routing.route(
        [plan, plan], app_id="shop", version="1", child_id=CHILD, free_slots=2, now_ms=NOW_MS
    )
    assert [one.claimed for one in routed] == [{"r1": 1}, {}]


async def test_a_handed_back_run_is_not_handed_back_again_late(scene: Scene) -> None:
    """S9.3: the repeat must not take it from its new owner."""
    await claimed(scene)
    assert await scene.hand_back(CHILD, "r1", crashed=True) == 1
    await scene.claim_one(OTHER)
    before = await scene.state()
    assert await scene.hand_back(CHILD, "r1", crashed=True) == 0
    assert await scene.state() == before
