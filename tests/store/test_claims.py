"""Claims: who gets which run, and what becomes of the claims of the dead. Rules S4.1, S7.2, S9.3, S9.8."""

from __future__ import annotations

from taskflow.store.claims import InvokedRun, ParkedOp, Verdict
from taskflow.store.hints import Hint, WorkHint
from taskflow.store.operation import Operation
from taskflow.store.routing import RunPlan
from taskflow.types import RunId
from tests.store.scene import CHILD, NOW_MS, OTHER, Scene, memo, offer_op, sleep_op

WORK = WorkHint("shop", "default")


# --- claiming ---


async def test_the_oldest_run_goes_first_over_all_functions_of_a_queue(scene: Scene) -> None:
    """S7.2"""
    for number in range(9):
        await scene.make_run(f"r{number}", fn=f"shop/f{number % 3}")
        scene.now_ms += 1
    first = (await scene.claim(limit=4)).runs
    rest = (await scene.claim(OTHER)).runs
    assert [run.claim.run_id for run in first + rest] == [f"r{number}" for number in range(9)]


async def test_a_run_that_has_started_goes_before_younger_ones(scene: Scene) -> None:
    """S7.2: it keeps its place when it is woken."""
    claim = await scene.claimed_run("old")
    await scene.park(claim, sleep_op(due_ms=NOW_MS + 10))
    scene.now_ms += 5
    await scene.make_run("young")
    scene.now_ms += 5
    await scene.fire()
    assert [run.claim.run_id for run in (await scene.claim()).runs] == ["old", "young"]


async def test_a_claim_gives_all_that_is_needed_to_go_on(scene: Scene) -> None:
    """S4.1: event, memos, attempt, times, in one round trip."""
    claim = await scene.claimed_run(finish_timeout_ms=9_000)
    await scene.commit(claim, "one")
    await scene.retry(claim, in_ms=1_000)
    scene.now_ms += 1_000
    await scene.fire()
    run = await scene.claim_one(OTHER)
    assert (run.claim.run_id, run.claim.child_id, run.claim.fence) == ("r1", OTHER, 2)
    assert (run.function_id, run.cause, run.attempt) == ("shop/work", "invoke", 1)
    assert (run.created_ms, run.started_ms, run.crashes, run.cancel) == (NOW_MS, NOW_MS, 0, b"")
    assert run.steps == {"one": memo()}


async def test_a_claim_takes_no_more_than_its_limit_and_says_what_is_left(scene: Scene) -> None:
    """S7.2"""
    for number in range(5):
        await scene.make_run(f"r{number}")
    reply = await scene.claim(limit=3)
    assert (len(reply.runs), reply.has_more) == (3, True)
    reply = await scene.claim(limit=3)
    assert (len(reply.runs), reply.has_more) == (2, False)
    assert (await scene.claim()).runs == []
    assert "ready:default:shop/work" not in await scene.keys()
    assert "queue:shop:default" not in await scene.keys()


async def test_functions_that_a_child_does_not_know_are_left_to_others(scene: Scene) -> None:
    """S9.2: during a deployment, old and new code run side by side."""
    await scene.make_run("new", fn="shop/new")
    await scene.make_run("known")
    reply = await scene.claim(unknown=["shop/new"])
    assert [run.claim.run_id for run in reply.runs] == ["known"]
    assert not reply.has_more
    assert [run.claim.run_id for run in (await scene.claim(OTHER)).runs] == ["new"]


async def test_two_children_never_get_the_same_run(scene: Scene) -> None:
    """S9.4"""
    for number in range(20):
        await scene.make_run(f"r{number}")
    taken: list[str] = []
    for turn in range(10):
        taken += [run.claim.run_id for run in (await scene.claim(f"host-{turn % 3}:1", limit=3)).runs]
    assert len(taken) == len(set(taken)) == 20


async def test_queues_are_apart(scene: Scene) -> None:
    """S2.1: only workers with `-Q` for it get a queue's runs."""
    await scene.make_run("slow", fn="shop/slow", queue="slow")
    await scene.make_run("other")
    assert [run.claim.run_id for run in (await scene.claim()).runs] == ["other"]


async def test_a_child_claims_nothing_past_older_runs_while_routing(scene: Scene) -> None:
    """S7.2: an event's run is claimed at once only when none is ready."""
    assert (await scene.route("U1", "r1", free=1)).claimed == {"r1": 1}
    await scene.make_run("waiting")
    scene.now_ms += 1
    assert (await scene.route("U2", "r2", free=1)).claimed == {}
    assert [run.claim.run_id for run in (await scene.claim()).runs] == ["waiting", "r2"]


async def test_a_child_claims_no_more_than_its_free_slots_while_routing(scene: Scene) -> None:
    """S4.4"""
    assert len((await scene.route("U1", "r1", "r2", "r3", free=2)).claimed) == 2
    assert await scene.status("r3") == "queued"


# --- work messages ---


async def start(scene: Scene, run_id: str) -> list[Hint]:
    """What the broker is to be told after a run was made."""
    _, hints = await scene.store.routing.start_run(
        RunPlan("shop/work", "default", RunId(run_id)),
        uid=f"E-{run_id}",
        name="order",
        event=b"{}",
        cause="invoke",
        version="1",
        now_ms=NOW_MS,
    )
    return hints


async def test_one_message_is_under_way_for_a_queue(scene: Scene) -> None:
    """S9.2: the second run asks for none; who spends it asks for the next when work is left."""
    hints = [len(await start(scene, f"r{number}")) for number in range(3)]
    assert hints == [1, 0, 0]
    assert (await scene.claim(limit=1, by_hint=True)).hints == [WORK]
    assert (await scene.claim(by_hint=True)).hints == []


async def test_after_the_last_run_the_next_one_asks_for_a_message(scene: Scene) -> None:
    """S9.2"""
    await scene.make_run("r1")
    await scene.claim(by_hint=True)
    assert await start(scene, "r2") == [WORK]


async def test_a_message_that_is_lost_is_asked_for_again(scene: Scene) -> None:
    """S9.2: by the reaper, once a queue, as long as there is work."""
    await scene.make_run("r1")
    assert (await scene.find_lost(hint_age_ms=3_000, later_ms=2_999)).hints == []
    assert (await scene.find_lost(hint_age_ms=3_000, later_ms=3_000)).hints == [WORK]
    assert (await scene.find_lost(hint_age_ms=3_000, later_ms=3_001)).hints == []
    await scene.claim()
    assert (await scene.find_lost(hint_age_ms=3_000, later_ms=60_000)).hints == []
    assert "queues" not in await scene.keys()


# --- handing back ---


async def test_all_claims_of_a_child_are_handed_back_in_parts(scene: Scene) -> None:
    """S9.3: each script is short, however many there are."""
    for number in range(25):
        await scene.make_run(f"r{number:02}")
    await scene.claim()
    assert await scene.hand_back(limit=7) == 25
    assert f"claims:{CHILD}" not in await scene.keys()
    reply = await scene.claim(OTHER)
    assert [run.claim.run_id for run in reply.runs] == [f"r{number:02}" for number in range(25)]


async def test_whoever_hands_back_tells_the_broker_whatever_message_is_under_way(scene: Scene) -> None:
    """S9.6: that message may have been the child's own. One is enough for all that it hands back."""
    for number in range(3):
        await scene.make_run(f"r{number}")
    await scene.claim()
    count, hints = await scene.store.claims.hand_back(
        CHILD, [], crashed=False, cause="", now_ms=scene.now_ms + 1
    )
    assert (count, hints) == (3, [WORK])


async def test_named_runs_are_handed_back_and_no_others(scene: Scene) -> None:
    """S9.6"""
    for number in range(3):
        await scene.make_run(f"r{number}")
    await scene.claim()
    assert await scene.hand_back(CHILD, "r0", "r2") == 2
    assert [await scene.status(f"r{number}") for number in range(3)] == ["queued", "running", "queued"]


async def test_a_run_that_is_not_the_childs_is_left_alone(scene: Scene) -> None:
    """S9.3"""
    await scene.claimed_run("r1", child_id=OTHER)
    before = await scene.state()
    assert await scene.hand_back(CHILD, "r1") == 0
    assert await scene.state() == before
    assert await scene.hand_back(CHILD) == 0
    assert await scene.state() == before | {"graves": {CHILD.encode(): NOW_MS}}


async def test_a_crash_is_counted_and_its_cause_kept_until_there_is_progress(scene: Scene) -> None:
    """S9.8: a clean hand-back is no crash."""
    claim = await scene.claimed_run()
    await scene.hand_back()
    for _ in range(2):
        claim = (await scene.claim_one()).claim
        await scene.hand_back(crashed=True)
    fields = await scene.fields()
    assert (fields["crashes"], fields["crash_log"]) == ("2", "signal 9; signal 9")
    run = await scene.claim_one()
    assert run.crashes == 2
    claim = run.claim
    assert await scene.commit(claim) == "ok"
    assert "crashes" not in await scene.fields()
    assert "crash_log" not in await scene.fields()


async def test_only_the_run_on_trial_is_blamed_for_the_last_crash(scene: Scene) -> None:
    """S9.8: those that wait for their trial go free."""
    claim = await scene.claimed_run()
    for crashes in ("1", "2", "2"):  # of 3: the third time it waits for its trial
        await scene.hand_back(crashed=True)
        assert (await scene.fields())["crashes"] == crashes
        claim = (await scene.claim_one()).claim
    assert await scene.begin_trial(claim)
    await scene.hand_back(crashed=True)
    assert (await scene.fields())["crashes"] == "3"
    assert not await scene.begin_trial(claim), "the claim is lost"


async def test_to_park_something_new_is_progress_too(scene: Scene) -> None:
    """S9.8"""
    await scene.claimed_run()
    await scene.hand_back(crashed=True)
    claim = (await scene.claim_one()).claim
    await scene.park(claim, sleep_op(), suspend=False)
    assert "crashes" not in await scene.fields()
    await scene.hand_back(crashed=True)
    claim = (await scene.claim_one()).claim
    await scene.park(claim, sleep_op(), suspend=False)
    assert (await scene.fields())["crashes"] == "1", "it was parked before"


async def test_the_memos_of_a_run_come_once_however_many_of_its_steps_are_claimed(scene: Scene) -> None:
    claim = await scene.claimed_run()
    await scene.commit(claim, "before")
    await scene.park(claim, *[offer_op(key) for key in ("one", "two", "three")], suspend=False)
    (run,) = (await scene.claim(OTHER, limit=2)).runs
    assert sorted(run.step_fences) == ["one", "three"]
    assert {"before", "one"} <= set(run.steps)
    reply = await scene.claim(OTHER, replayed=["r1"])
    assert not reply.runs
    (step,) = reply.steps
    assert (step.run_id, step.step_key, Operation.unpack(step.packed).state) == ("r1", "two", "taken")
    assert step.fence not in run.step_fences.values()


async def test_the_death_of_a_process_counts_once_however_many_steps_of_a_run_it_had(scene: Scene) -> None:
    """S9.8: three of its steps under way made one death the last that the run was allowed."""
    claim = await scene.claimed_run()
    await scene.park(claim, *[offer_op(key) for key in ("one", "two", "three")], suspend=False)
    await scene.claim(OTHER)
    assert await scene.hand_back(OTHER, crashed=True) == 3
    (run,) = (await scene.claim(CHILD)).runs
    assert run.crashes == 1


async def test_a_handed_back_step_is_offered_again(scene: Scene) -> None:
    """S4.4, S9.3"""
    claim = await scene.claimed_run()
    await scene.park(claim, offer_op(), suspend=False)
    first = await scene.claim_one(OTHER)
    assert first.step_key == "one"
    assert await scene.hand_back(OTHER, crashed=True) == 1
    second = await scene.claim_one("host-c:1")
    assert (second.step_key, second.claim.run_id) == ("one", "r1")
    assert (await scene.fields())["crashes"] == "1"
    assert await scene.status() == "running", "the run itself stays where it is"


async def test_dead_workers_are_those_without_a_heartbeat(scene: Scene) -> None:
    """S9.3"""
    assert await scene.heartbeat("host-a", "host-a:1", "host-a:2") == NOW_MS
    scene.now_ms += 5_000
    assert await scene.heartbeat("host-a", "host-a:1", "host-a:2") == NOW_MS
    await scene.heartbeat("host-b", "host-b:1")
    assert (await scene.find_lost(silence_ms=1)).workers == []
    scene.now_ms += 5_000
    await scene.heartbeat("host-b", "host-b:1")
    (dead,) = (await scene.find_lost(silence_ms=1)).workers
    assert (dead.worker_id, sorted(dead.child_ids)) == ("host-a", ["host-a:1", "host-a:2"])
    assert await scene.store.duties.forget_worker("host-a", silent_since_ms=scene.now_ms - 1) is True
    assert await scene.heartbeat("host-a", "host-a:1") == scene.now_ms, "it learns that it was declared dead"


async def test_a_heartbeat_that_comes_late_does_not_make_its_worker_look_older(scene: Scene) -> None:
    """S9.3: the network held it up."""
    scene.now_ms += 5_000
    await scene.heartbeat("host-a", "host-a:1")
    scene.now_ms -= 3_000
    await scene.heartbeat("host-a", "host-a:1")
    assert (await scene.find_lost(silence_ms=3_000, later_ms=5_999)).workers == []


async def test_a_worker_that_came_back_is_not_forgotten(scene: Scene) -> None:
    """S9.3: its heartbeat came between looking and burying."""
    await scene.heartbeat("host-a", "host-a:1")
    silent_since_ms = scene.now_ms
    scene.now_ms += 11_000
    await scene.heartbeat("host-a", "host-a:1")
    assert await scene.store.duties.forget_worker("host-a", silent_since_ms=silent_since_ms) is False
    assert await scene.heartbeat("host-a", "host-a:1") == NOW_MS


async def test_the_reaper_learns_when_something_will_count_as_lost(scene: Scene) -> None:
    """S9.2, S9.3: so it looks seldom, and still in time."""

    async def next_ms(later_ms: int = 0) -> int | None:
        lost = await scene.find_lost(
            hint_age_ms=3_000, event_age_ms=5_000, silence_ms=11_000, later_ms=later_ms
        )
        return None if lost.next_ms is None else lost.next_ms - NOW_MS

    assert await next_ms() is None
    await scene.heartbeat("host-a", "host-a:1")
    assert await next_ms(100) == 11_000
    await scene.finish(await scene.claimed_run(), "failed")
    assert await next_ms(100) == 5_000
    await scene.make_run("r2")
    assert await next_ms(100) == 3_000
    assert await next_ms(3_000) == 5_000, "the message was just sent again"
    await scene.park((await scene.claim_one()).claim, sleep_op(due_ms=NOW_MS + 700))
    assert (await scene.find_lost()).next_timer_ms == NOW_MS + 700


# --- suspending ---


async def test_a_run_is_not_suspended_over_something_that_was_resolved_meanwhile(scene: Scene) -> None:
    """S4.3, S9.2: else it would never be woken."""
    claim = await scene.claimed_run()
    await scene.park(claim, sleep_op(due_ms=NOW_MS), suspend=False)
    await scene.fire()
    assert await scene.park(claim, sleep_op("other")) is Verdict.DIRTY
    assert await scene.status() == "running"
    verdict, (nap, other) = await scene.claims.fetch_resolved(claim, ["nap", "other"])
    assert verdict is Verdict.OK
    assert b"done" in (nap or b"")
    assert b"wait" in (other or b"")
    assert await scene.park(claim) is Verdict.PARKED
    assert await scene.status() == "waiting"


async def test_a_join_wakes_its_run_once_by_the_last_of_it(scene: Scene) -> None:
    """S4.3: a thousand children do not wake their parent a thousand times."""
    claim = await scene.claimed_run()
    ops = [sleep_op(f"nap {n}", due_ms=NOW_MS + n, index=n) for n in range(5)]
    await scene.park(claim, *ops, joins={f"nap {n}": 0 for n in range(4)})
    statuses = []
    for _ in range(4):
        await scene.fire(limit=1)
        statuses.append(await scene.status())
        scene.now_ms += 1
    assert statuses == ["waiting", "waiting", "waiting", "queued"]
    await scene.claim_one()
    assert "joins:r1" not in await scene.keys()


async def test_what_is_in_no_join_wakes_the_run_by_itself(scene: Scene) -> None:
    """S4.3"""
    claim = await scene.claimed_run()
    ops = [sleep_op(f"nap {n}", due_ms=NOW_MS + n, index=n) for n in range(3)]
    await scene.park(claim, *ops, joins={"nap 1": 0, "nap 2": 0})
    await scene.fire()
    assert await scene.status() == "queued"


async def test_a_failure_wakes_a_join_at_once(scene: Scene) -> None:
    """S4.3, S3.7: who gathers wants to know of the first error."""
    claim = await scene.claimed_run()
    child = InvokedRun("shop/child", "default", RunId("c1"), b"{}", 0, 0)
    invoke = ParkedOp("child", Operation("invoke", "wait", 1, child="c1").pack(), child)
    await scene.park(claim, sleep_op(), invoke, joins={"nap": 0, "child": 0})
    born = (await scene.claim_one(OTHER)).claim
    await scene.finish(born, "failed")
    assert await scene.status() == "queued"
    assert (await scene.operation("child")).error == {"name": "ValueError", "message": "broken", "stack": ""}


async def test_one_commit_may_bring_five_thousand_memos(scene: Scene) -> None:
    """S3.10: a run that gathered so many sleeps notes the order of all at its next step. Lua's stack has room for fewer values."""
    claim = await scene.claimed_run()
    notes = [part for number in range(5_000) for part in (f"nap#{number}", memo(index=number))]
    assert await scene.claims.commit_step(claim, *notes, is_completed=True) is Verdict.OK
    assert await scene.store.client.call("HLEN", scene.store.keys.steps("r1")) == 5_000
