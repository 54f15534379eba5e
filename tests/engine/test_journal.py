"""The journal of a run: calls get their operations, and the store is told of each outcome and its place. Rules S3.8, S4.1, S4.5."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.config import Config
from taskflow.engine.journal import Journal
from taskflow.errors import LimitExceeded, NonDeterminismError
from taskflow.store.operation import DONE, DUE, FAILED, RETRY, WAIT, Operation


class Nobody:
    """Stands for a branch that waits: the journal only tells one from another."""


def nobody() -> Any:
    return Nobody()


def journal(
    operations: dict[str, Operation] | None = None, *, is_strict: bool = False, max_steps: int = 1_000, max_bytes: int = 1 << 20
) -> Journal:  # fmt: skip
    config = Config.resolve(
        "shop", environ={}, broker="redis://unused", store="redis://unused", max_steps=max_steps, max_run_bytes=max_bytes,
        max_step_output_bytes=max_bytes,
    )  # fmt: skip
    steps = {key: op.pack() for key, op in (operations or {}).items()}
    return Journal(steps, "r1", "shop/order", 2, is_strict, config)


def done(index: int, order: int | None = None, *, ended: int = 0) -> Operation:
    return Operation("step", DONE, index, order, data=b"1", ended=ended)


# --- calls ---


@given(st.lists(st.sampled_from(["a", "a#1", "b"])))
def test_calls_get_the_same_keys_in_each_replay_and_no_key_twice(ids: list[str]) -> None:
    keys = [journal_call.key for first in (journal(),) for journal_call in map(first.call, ids)]
    assert len(set(keys)) == len(ids)
    known = journal({key: done(index, index) for index, key in enumerate(keys)})
    calls = [known.call(step_id) for step_id in ids]
    assert [call.key for call in calls] == keys
    assert all(call.known is not None and call.known.index == call.index for call in calls)
    assert not known.take_warning()


def test_a_run_has_a_bounded_number_of_steps() -> None:
    short = journal(max_steps=1)
    short.call("a")
    with pytest.raises(LimitExceeded, match="would be number 2, but a run has at most 1 steps"):
        short.call("b")


def test_another_order_of_calls_is_told_once() -> None:
    known = journal({"a": done(0, 0), "b": done(1, 1)})
    known.call("b")
    known.call("a")
    assert "step 'a' came at place 1 before, and now after one of place 2" in known.take_warning()
    assert known.take_warning() == ""


def test_another_order_of_calls_fails_a_strict_run() -> None:
    known = journal({"a": done(0, 0), "b": done(1, 1)}, is_strict=True)
    with pytest.raises(NonDeterminismError, match="step 'b' came at place 2 before, and now at 1"):
        known.call("b")


# --- replay ---


def test_what_was_resolved_while_nobody_was_here_comes_last_and_is_noted() -> None:
    known = journal({"new": done(0, ended=5), "old": done(1, 0, ended=9), "newer": done(2, ended=7)})
    assert known.story() == (["old", "new", "newer"], 3)
    assert list(known.notes) == ["new", "newer"]
    assert [Operation.unpack(packed).order for packed in known.notes.values()] == [1, 2]


def test_a_run_replays_until_the_first_of_its_news_reaches_the_handler() -> None:
    known = journal({"old": done(0, 0), "slept": done(1)})
    assert known.is_replaying
    known.call("old")
    known.reached("old")
    known.call("slept")
    assert known.is_replaying
    known.reached("slept")
    assert not known.is_replaying


def test_a_new_run_replays_nothing() -> None:
    assert not journal().is_replaying


# --- outcomes ---


def test_notes_go_with_the_next_commit_once() -> None:
    known = journal()
    known.resolved("slept", Operation("sleep", DONE, 0, 0, data=b"null"))
    parts = known.ended("a", done(1, 1))
    assert parts[::2] == ["slept", "a"]
    assert known.ended("b", done(2, 2))[::2] == ["b"]


def test_a_commit_that_is_refused_for_its_size_keeps_the_notes() -> None:
    known = journal(max_bytes=30)
    known.resolved("slept", Operation("sleep", DONE, 0, 0, data=b"null"))
    with pytest.raises(LimitExceeded, match="at most 30 are allowed"):
        known.ended("a", done(1, 1))
    assert list(known.notes) == ["slept"]


@pytest.mark.parametrize(("state", "attempt"), [(DONE, 0), (FAILED, 2)])
def test_a_step_that_completes_lets_the_code_between_steps_fail_anew(state: str, attempt: int) -> None:
    """S5.1."""
    known = journal()
    known.committed(Operation("step", state, 0))
    assert known.attempt == attempt


# --- what something else resolves ---


def test_the_store_is_told_of_notes_first_and_of_each_operation_once() -> None:
    known = journal()
    known.park("nap", nobody())
    known.store("nap", Operation("sleep", WAIT, 1, due=5))
    known.resolved("slept", Operation("sleep", DONE, 0, 0, data=b"null"))
    assert [op.step_key for op in known.take_unstored()] == ["slept", "nap"]
    assert known.take_unstored() == []
    assert list(known.pending) == ["nap"], "it still waits"


def test_what_is_not_stored_yet_is_not_asked_for() -> None:
    """S5.1: the store may still know that its last retry was due."""
    known = journal()
    known.park("flaky", nobody())
    known.store("flaky", Operation("step", RETRY, 0, due=5))
    assert known.asked() == {}
    known.take_unstored()
    assert list(known.asked()) == ["flaky"]


def test_news_come_in_the_order_in_which_they_ended() -> None:
    known = journal()
    for key in ("late", "waits", "due", "early"):
        known.park(key, nobody())
    news = known.news_of(
        known.asked(),
        [done(0, ended=9).pack(), Operation("sleep", WAIT, 1).pack(), Operation("step", DUE, 2).pack(), done(3, ended=4).pack()],
    )  # fmt: skip
    assert [key for key, _ in news] == ["due", "early", "late"]


def test_news_of_what_was_parked_anew_meanwhile_are_old() -> None:
    known = journal()
    known.park("flaky", nobody())
    asked = known.asked()
    assert known.leave("flaky")
    known.park("flaky", nobody())
    assert known.news_of(asked, [Operation("step", DUE, 0).pack()]) == []


@pytest.mark.parametrize(
    ("status", "is_parked", "expected"), [("completed", False, False), ("completed", True, True), ("failed", False, True)]
)  # fmt: skip
def test_a_run_that_completes_with_nothing_parked_leaves_nothing_in_the_store(
    status: str, is_parked: bool, expected: bool
) -> None:
    known = journal()
    known.park("nap", nobody())
    if not is_parked:
        known.leave("nap")
    assert known.may_have_pending(status) is expected


def test_an_operation_that_the_code_does_not_come_to_any_more_is_left_in_the_store() -> None:
    """S4.5: the code has changed."""
    assert journal({"gone": Operation("sleep", WAIT, 0)}).may_have_pending("completed")


@given(st.lists(st.sampled_from(["park", "store", "take", "resolve", "leave"])))
def test_nothing_that_was_parked_is_forgotten_or_stored_twice(events: list[str]) -> None:
    """Whatever happens in which order: the store is told of each parked operation once, unless it was left before."""
    known, told = journal(), list[str]()
    parked = 0
    left: set[str] = set()
    for event in events:
        if event == "park":
            key = f"op {parked}"
            known.park(key, nobody())
            known.store(key, Operation("sleep", WAIT, parked))
            parked += 1
        elif event == "take":
            told += [op.step_key for op in known.take_unstored() if op.step_key.startswith("op")]
        elif known.pending:
            key = next(iter(known.pending))
            known.leave(key)
            if event == "leave" and known.withdraw(key):
                left.add(key)
    told += [op.step_key for op in known.take_unstored()]
    assert sorted([*told, *left]) == sorted(f"op {number}" for number in range(parked))
