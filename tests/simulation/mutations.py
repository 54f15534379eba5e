"""Bugs to be put into the engine, one at a time: a checker that finds none of them proves nothing.

Each is a context manager that changes a line of the Lua scripts, or a method, and refuses when what it changes is not there.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from taskflow import event
from taskflow.beat.crons import Crons
from taskflow.engine import handler
from taskflow.engine.around import StepAround
from taskflow.engine.assignment import OfferedSteps
from taskflow.engine.execution import Execution
from taskflow.engine.executor import Executor
from taskflow.engine.handler_call import HandlerCall
from taskflow.engine.journal import Journal
from taskflow.engine.offers import Offers
from taskflow.engine.parking import Parking
from taskflow.engine.slots import RunSlots
from taskflow.engine.step_calls import StepCalls
from taskflow.engine.turns import Turns
from taskflow.event_model import ModelType
from taskflow.flow import keys
from taskflow.headers import NO_HEADERS, Headers
from taskflow.observability import failures
from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Script, load_scripts
from taskflow.routing.router import Receipt, Router
from taskflow.store.store import PACKAGE
from taskflow.tasks import canvas
from taskflow.values.clock import SystemClock
from taskflow.worker.child.registration import Registration
from taskflow.worker.child.runner import AppRunner
from tests.simulation.hosts import SimulatedLease

# Bugs that show so seldom that no seed is known in which the present workload meets them: `make simulate-mutations` looks for them.
SELDOM = (
    "forgets what a child claims that no heartbeat has named",
    "takes what it was told of for all that was resolved",
    "hands back what it executes, when it drains and hears of it twice",
    "begins a step while the run is being suspended",
    "hands back what goes on to its next step",
)

MakeBug = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """`rule` is what the checker is to complain of, as its problems begin; "" for any."""

    name: str
    rule: str
    seed: int  # from where to look: the first that finds it; when the engine changes, perhaps a little later
    bug: MakeBug

    def __str__(self) -> str:
        return self.name


def lua(old: str, new: str, *, script: str | None = None) -> MakeBug:
    """Another text in every script that has the old one, or in one script."""

    @contextmanager
    def bug() -> Iterator[None]:
        scripts = load_scripts(PACKAGE)
        changed = {
            name: known for name, known in scripts.items() if old in known.source and script in (None, name)
        }
        assert changed, f"no script has {old!r} any more: change the mutation"
        try:
            for name, known in changed.items():
                scripts[name] = Script.of(name, known.source.replace(old, new), known.signature)
            yield
        finally:
            scripts.update(changed)

    return bug


def both(first: MakeBug, second: MakeBug) -> MakeBug:
    """Two changes that make one bug."""

    @contextmanager
    def bug() -> Iterator[None]:
        with first(), second():
            yield

    return bug


def method(owner: type | ModuleType, name: str, replacement: Any) -> MakeBug:
    """Another method of a class, or another function of a module."""

    @contextmanager
    def bug() -> Iterator[None]:
        original = getattr(owner, name)
        try:
            setattr(owner, name, replacement)
            yield
        finally:
            setattr(owner, name, original)

    return bug


def python(owner: type | ModuleType, name: str, old: str, new: str) -> MakeBug:
    """Another text in one method or function: it is compiled anew from its source."""

    @contextmanager
    def bug() -> Iterator[None]:
        original = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        assert old in source, f"{owner.__name__}.{name} has no {old!r} any more: change the mutation"
        found: dict[str, Any] = {}
        text = "from __future__ import annotations\n" + source.replace(old, new)
        exec(compile(text, inspect.getfile(owner), "exec"), original.__globals__, found)
        with method(owner, name, found[name])():
            yield

    return bug


REGISTER = Registration.register


async def register_once(self: Registration) -> None:
    """Never again, though the store may forget it."""
    if not hasattr(self, "has_registered"):
        await REGISTER(self)
        self.has_registered = True  # type: ignore[attr-defined]


ROUTER_TAKES = Router.take


def acknowledge_first(self: Router, bodies: Sequence[bytes]) -> Receipt:
    """Say at once that the events are in the store, and begin to route them a little later."""
    self.loop.call_later(0.05, ROUTER_TAKES, self, bodies)
    receipt = Receipt(bodies, self.loop.create_future())
    receipt.done.set_result(None)
    return receipt


def always_valid(self: SimulatedLease, *, epoch: int | None = None) -> bool:
    return True


def keep_slot(self: RunSlots, extra: asyncio.Future[None]) -> None:
    extra.cancel()


def forget_inherited(inherited: Headers, own: Headers | None) -> Headers:
    return own or NO_HEADERS


def letters_of(value: Any) -> str:
    return "".join(filter(str.isalnum, str(value)))


def wait_for_it(self: Turns, key: str) -> None:
    """An outcome does not come, and keeps its place in the order."""


MUTATIONS = (
    Mutation(
        "commits without a fence", "S9.4", 8,
        lua(
            "if not is_plain and (run[1] ~= child_id or run[2] ~= fence or run[6] ~= 'running') then", "if false then",
            script="commit_steps",
        ),
    ),
    Mutation(
        "suspends without a fence", "S9.4", 56,
        lua("if not owns(run_id, child_id, fence) then return {'fenced', {}} end", "", script="park_run"),
    ),
    Mutation(
        "finishes without a fence", "S9.4", 348,
        lua("if run[1] ~= child_id or run[2] ~= fence or run[3] ~= 'running' then return 'fenced' end", "", script="finish_runs"),
    ),
    Mutation("acknowledges events before they are routed", "S9.1", 44, method(Router, "take", acknowledge_first)),
    Mutation("never doubts its lease", "S", 130, method(SimulatedLease, "is_valid", always_valid)),
    Mutation(
        "routes an event anew each time", "S", 7,
        lua(
            "local is_decided = not is_new and redis.call('HEXISTS', key, 'fn:' .. function_id) == 1",
            "local is_decided, is_new = false, true",
        ),
    ),
    Mutation(
        "loses work messages, and no reaper looks", "S9.2", 8,
        lua("if now_ms - sent_ms >= hint_age_ms then", "if false then", script="find_lost"),
    ),
    Mutation(
        "never buries a silent worker", "S9.2", 36,
        lua("dead[#dead + 1] = row", "", script="find_lost"),
    ),
    Mutation(
        "forgets what a dead child claims late", "S9.2", 775,
        lua("dead[#dead + 1] = {'', child_id}", "", script="find_lost"),
    ),
    Mutation(
        "forgets what a child claims that no heartbeat has named", "S9.2", 310_121,
        both(
            lua(
                "redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id)\nif is_watched", "if is_watched",
                script="register_app",
            ),
            lua("if redis.call('SADD', prefix .. 'worker:' .. worker_id, child_id) == 1 then", "if false then"),
        ),
    ),
    Mutation(
        "suspends over an operation that was resolved meanwhile", "S9.2", 42,
        lua("if run[2] then return {'dirty', hints} end", "", script="park_run"),
    ),
    Mutation(
        "wakes nobody when a retry is due", "S9.2", 1,
        lua("op.state, op.due = 'due', nil", "op.state, op.due = 'due', nil\nif true then return end", script="fire_timers"),
    ),
    Mutation("lets one more than the limit execute", "S7.1", 1, lua(">= most end", "> most end")),
    Mutation(
        "gives a place back twice", "S7.1", 36,
        lua(
            "for _ = 1, on_pages('SREM', (prefix .. 'places:' .. limit), holders) do",
            "for _ = 1, on_pages('SREM', (prefix .. 'places:' .. limit), holders)"
            " + #redis.call('SPOP', prefix .. 'places:' .. limit, 1) do",
        ),
    ),
    Mutation(
        "takes the newest run first", "S7.2", 18,
        both(
            lua(
                "local best = redis.call('ZRANGE', (prefix .. 'ready:' .. queue .. ':' .. fn), 0,",
                "local best = redis.call('ZREVRANGE', (prefix .. 'ready:' .. queue .. ':' .. fn), 0,",
            ),
            lua(
                "redis.call('ZREMRANGEBYRANK', (prefix .. 'ready:' .. queue .. ':' .. fn), 0, taken - 1)",
                "redis.call('ZREMRANGEBYRANK', (prefix .. 'ready:' .. queue .. ':' .. fn), -taken, -1)",
            ),
        ),
    ),
    Mutation(
        "counts no starts for the throttle", "S7.3", 1,
        lua("if throttle and interval_us then", "if false then"),
    ),
    Mutation(
        "rounds the rate limit up", "S7.4", 12,
        lua("- period_ms * (limit - count)", "- period_ms * limit"),
    ),
    Mutation(
        "keeps the first event of a debounce", "S7.5", 21,
        lua("    set_debounced_event(run, run_id, flow)\n", ""),
    ),
    Mutation(
        "moves a debounce's timer, but not its window", "S7.5", 138,
        lua("redis.call('HSET', prefix .. name, 'due', due_ms, 'last', last_ms)", ""),
    ),
    Mutation("overfills a batch", "S7.6", 14, lua("if count >= size or", "if count > size or")),
    Mutation(
        "lets two runs of a singleton live", "S7.7", 36,
        lua("if cancel(holder, reason, now_ms) == 'requested' then", "if cancel(holder, reason, now_ms) == 'never' then"),
    ),
    Mutation(
        "meets waits with events from before", "S3.3", 56,
        lua("or op.state ~= 'wait' or op.seq >= seq then", "or op.state ~= 'wait' then", script="find_waits"),
    ),
    Mutation("leaves waits behind", "S10.1", 0, lua("if op.kind == 'event' then remove_wait(op, job) end", "")),
    Mutation(
        "tells of an end only as long as its worker lives", "S5.5", 22,
        lua("redis.call('ZADD', prefix .. 'outbox', now_ms, uid)", ""),
    ),
    Mutation(
        "forgets which values have run", "S7.8", 1,
        lua("redis.call('HSET', prefix .. 'idempotency:' .. id, 'run', run_id, 'until', now_ms + 86400000)", ""),
    ),
    Mutation(
        "takes every event for the first with its id", "S1.3", 1,
        lua("if first and first ~= uid and tonumber(until_ms) > tonumber(now_ms) then", "if false then"),
    ),
    Mutation(
        "promises a cancellation, and forgets it", "S6.2", 46,
        lua("redis.call('HSETNX', (prefix .. 'run:' .. run_id), 'cancel', reason)", "if true then return 'requested' end"),
    ),
    Mutation(
        "takes the outcome of an offered step from anybody", "S", 117,
        lua(
            "if not op or op.state ~= 'taken' or op.by ~= child_id or tostring(op.fence) ~= fence then", "if not op then",
            script="commit_offered",
        ),
    ),
    Mutation("keeps the slot of a step that executes elsewhere", "S4.3", 1, method(RunSlots, "give_back", keep_slot)),
    Mutation(
        "tells a child of more runs than it has slots for", "S4.3", 312,
        lua("fence = free > 0 and known_fence(run_id, child_id) or 0", "fence = known_fence(run_id, child_id) or 0"),
    ),
    # --- the engine, in Python ---
    Mutation(
        "drops the note of an outcome's place in the order", "S4.5", 18,
        python(Journal, "resolved", "packed = self.notes[key] = op.pack()", "packed = op.pack()"),
    ),
    Mutation("keeps no order of outcomes", "S4.5", 172, python(Turns, "is_next", "self.expected[0] == key", "True")),
    Mutation("waits for the outcome of a loser", "S9.2", 245, method(Turns, "forget", wait_for_it)),
    Mutation("frees the slot of a run twice", "S4.3", 0, python(RunSlots, "give_back_own", "self.has_own = False", "pass")),
    Mutation("keeps the slot of a suspended run", "S4.3", 0, python(Execution, "release", "self.slots.give_back_own()", "pass")),
    Mutation(
        "keeps the slot of a parallel step", "S4.3", 1,
        both(
            python(StepCalls, "execute", "run.slots.give_back(slot)", "pass"),
            python(RunSlots, "end", "self.give_back(extra)", "pass"),
        ),
    ),
    Mutation(
        "keeps the slot of a step that it took", "S4.3", 0,
        python(OfferedSteps, "over", "self.host.slots.give_back()", "pass"),
    ),
    Mutation(
        "takes a step that it can't come to without another replay", "S", 0,
        python(OfferedSteps, "take", "return False", "return True"),
    ),
    Mutation(
        "sets slots aside that no run came for", "S4.3", 0,
        python(Executor, "take_claimed", "self.unreserve(sent.limit - started)", "self.unreserve(len(reply.runs) - started)"),
    ),
    Mutation(
        "goes on when it is told that the run is cancelled", "S6.2", 39,
        python(StepCalls, "commit", "if verdict is not Verdict.OK", "if verdict not in (Verdict.OK, Verdict.CANCEL)"),
    ),
    Mutation(
        "goes on before an outcome is stored", "S4.1", 1,
        python(
            StepCalls, "commit", "verdict = await run.ask(",
            "verdict = (lambda reply: (run.spawn(reply), Verdict.OK)[1])(",
        ),
    ),
    Mutation("cuts off steps that execute", "S6.2", 12, python(Execution, "leave_if_idle", "if not self.slots.is_busy", "if True")),
    Mutation(
        "has a run tried again while its steps execute", "S9.4", 125,
        python(Execution, "retry", "await self.steps_end(keep=True)", "pass"),
    ),
    Mutation(
        "ends a run while its steps execute", "S7.1", 18,
        python(Execution, "finish", "await self.steps_end(keep=False)", "pass"),
    ),
    Mutation(
        "does not look at what was resolved while it suspended", "S9.2", 76,
        python(Execution, "suspend", "await self.proceed(self.parking.fetch())", "pass"),
    ),
    Mutation(
        "suspends while it fetches what was resolved", "S9.2", 111,
        method(Parking, "may_suspend", property(lambda self: not self.is_suspending)),
    ),
    Mutation(
        "suspends without storing what it waits for", "S9.2", 0,
        python(Journal, "take_unstored", ", *self.unstored.values()", ""),
    ),
    Mutation(
        "executes all steps on the way to an offered one", "S9.4", 0,
        python(OfferedSteps, "may_execute", "key in self.owned.fences", "True"),
    ),
    Mutation(
        "takes what it was told of for all that was resolved", "S9.2", 1_234,
        lua("if is_all then", "if true then", script="fetch_resolved"),
    ),
    Mutation(
        "a drain does not wait for bodies", "S6.2", 18,
        python(Execution, "leave_if_idle", "and not self.is_let_go_on:", ":"),
    ),
    Mutation(
        "throws away what a drained body came to", "S4.7", 28,
        python(HandlerCall, "main", "run.lifecycle.may_begin_step or run.is_let_go_on", "run.lifecycle.may_begin_step"),
    ),
    # --- what is around user code ---
    Mutation(
        "calls a step's function without its middleware", "S11.4", 5,
        python(StepCalls, "attempt", "around if around is not None and around.is_called else None", "None"),
    ),
    Mutation(
        "does not tell of the end of a step that failed", "S11.4", 5,
        python(StepAround, "fails", 'await self.ends(Outcome("failed", error=original_of(error)), now_ms)', "pass"),
    ),
    # --- deploys ---
    Mutation(
        "takes plans by functions that count no more", "S2.7", 22,
        lua("== 0 then return {'changed'} end", "== 2 then return {'changed'} end"),
    ),
    Mutation(
        "gives the last word to the code of the worker that started last", "S2.7", 20,
        lua(r"if redis.call('EXISTS', (prefix .. 'code:' .. app_id .. '\31' .. code)) == 0 and", "if"),
    ),
    Mutation(
        "forgets a version while its worker replaces its only child", "S2.7", 149,
        lua("if #siblings > 2 then", "if true then", script="hand_back"),
    ),
    Mutation(
        "keeps a version whose workers have left", "S2.7", 28,
        lua("redis.call('HDEL', prefix .. 'running', found[i])", ""),
    ),
    Mutation(
        "leaves out a function that it has no code for", "S2.7", 13,
        python(Router, "plan_event", "for spec in self.known.listeners.of(event)",
               "for spec in self.known.listeners.of(event) if spec.id in self.taker.functions"),
    ),
    Mutation(
        "leaves out what was missed of a cron", "S8.1", 13,
        python(Crons, "catch_up", "due_ticks(schedule.trigger, last_ms, now_ms)", "()"),
    ),
    # --- what users write and raise, queues, retention ---
    Mutation(
        "takes a CancelledError of user code for its own", "S5.1", 162,
        python(handler, "contained", "if is_being_cancelled():", "if True:"),
    ),
    Mutation(
        "stores the text of an error as it is", "logged", 1,
        python(failures, "storable", 'text.encode("utf-8", "backslashreplace").decode()', "text"),
    ),
    Mutation("takes keys that differ by their punctuation for one", "S7", 1, method(keys, "token_of", letters_of)),
    Mutation(
        "reads an older version of data as if it were the present one", "S11.2", 27,
        python(ModelType, "parse", "self.upgraded(data, self.v if v is None else v)", "data"),
    ),
    Mutation(
        "loses events that are to be dead letters", "S11.2", 2,
        lua("if is_dead_letter then", "if false then", script="refuse_events"),
    ),
    Mutation("forgets the headers of who sends", "S11.1", 0, method(event, "inherit", forget_inherited)),
    Mutation(
        "claims from a paused queue", "S10.4", 8,
        lua("then return {0, hints, {}} end", "then local none end", script="claim_runs"),
    ),
    Mutation(
        "hands runs back to the default queue", "S2.5", 111,
        lua("local queue = run[3] or 'default'", "local queue = 'default'", script="hand_back"),
    ),
    Mutation(
        "looks for work in queues that it does not serve", "S2.5", 41,
        python(Executor, "look_for_work", "if queue not in self.queues", "if False"),
    ),
    Mutation("keeps failed runs as long as the app says", "S10.1", 0, lua("if own_ms then return own_ms end", "")),
    Mutation(
        "keeps completed runs as long as the app says", "S10.1", 5,
        python(Execution, "finish", " if (keep_ms := self.function.spec.keep_ms) is None else keep_ms", ""),
    ),
    Mutation(
        "takes the refusal of a store that can't write now for its answer", "", 0,
        python(StoreClient, "take_reply", "elif text.startswith(self.topology.refusals):", "elif False:"),
    ),
    Mutation(
        "leaves in the store what user code has given up", "S", 227,
        python(StepCalls, "wait", "self.give_up(key, op)", "pass"),
    ),
    Mutation(
        "leaves a store that was emptied without the functions", "", 3,
        method(Registration, "register", register_once),
    ),
    Mutation(
        "executes again what user code has given up", "S4.1", 330_033,
        python(StepCalls, "attempt", "run.journal.give_up(call.key, op)", "pass"),
    ),
    Mutation(
        "overwrites the outcome of an offered step that is given up", "S4.1", 243_490,
        python(StepCalls, "find_slot", "if was_offered:", "if False:"),
    ),
    Mutation(
        "hands back what it executes, when it drains and hears of it twice", "S9.4", 330_098,
        python(Executor, "start", "if known is not None:", "if known is not None and not self.is_draining:"),
    ),
    Mutation(
        "hands back what goes on to its next step", "S9.4", 330_653,
        python(AppRunner, "stop", "self.executor.stop_all()", "pass"),
    ),
    Mutation(
        "begins a step while the run is being suspended", "S9.4", 330_027,
        python(Offers, "slot_came", "if self.parking.is_suspending:", "if False:"),
    ),
    # --- tasks ---
    Mutation(
        "forgets by which id a call is known", "S15.2", 35, lua("redis.call('SET', chosen, run_id)", "", script="start_calls"),
    ),
    Mutation(
        "keeps the id of a call whose run is gone", "S10.1", 35,
        lua("if run[3] then keys[#keys + 1] =", "if false then keys[#keys + 1] =", script="trim_history"),
    ),
    Mutation(
        "gives a body the results in another order", "S15.3", 55,
        python(canvas, "settled", "for each in outcomes]", "for each in outcomes[1:] + outcomes[:1]]"),
    ),
    Mutation(
        "splits a group, and takes failures of its parts for results", "S15.3", 255,
        python(canvas.CanvasRun, "parts", "told if ok else Failure(**told)", "told"),
    ),
    # --- code that changes ---
    Mutation(
        "takes the memo of another tool", "S4.5", 330_005,
        python(StepCalls, "begin", "known.kind != kind or ", ""),
    ),
    Mutation(
        "leaves what another tool waits for", "S10.1", 330_150,
        lua("if (PENDING[op.state]) then unlist", "if false then unlist", script="forget_operation"),
    ),
    # --- clocks ---
    Mutation(
        "follows the clock of its machine, which somebody sets", "S", 6,
        python(SystemClock, "now_ms", "self.boot_ms() + self._start_ms", "self.wall_ms()"),
    ),
)  # fmt: skip
