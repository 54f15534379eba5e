"""Where a run stands in its process: a table of moves, and what beats what. Rules S6.2, S9.4, S10.4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.engine.lifecycle import MOVES, Ending, Lifecycle, Phase

TOLD = (Ending.SUSPENDED, Ending.CANCELLED, Ending.FENCED, Ending.HANDED_BACK)


def stopping(ending: Ending) -> Lifecycle:
    life = Lifecycle()
    assert life.told(ending)
    return life


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        (Ending.HANDED_BACK, Ending.CANCELLED, Ending.CANCELLED),
        (Ending.CANCELLED, Ending.HANDED_BACK, Ending.CANCELLED),
        (Ending.SUSPENDED, Ending.CANCELLED, Ending.SUSPENDED),
        (Ending.CANCELLED, Ending.FENCED, Ending.FENCED),
        (Ending.FENCED, Ending.CANCELLED, Ending.FENCED),
        (Ending.HANDED_BACK, Ending.FENCED, Ending.FENCED),
    ],
)
def test_of_two_reasons_to_stop_the_stronger_counts(first: Ending, second: Ending, wins: Ending) -> None:
    """Losing the claim beats all, and a cancellation beats handing back."""
    life = stopping(first)
    assert life.told(second)
    assert life.ending is wins


def test_the_first_reason_of_a_cancellation_is_kept() -> None:
    life = Lifecycle()
    life.told(Ending.CANCELLED, b"first")
    life.told(Ending.CANCELLED, b"second")
    assert life.reason == b"first"


def test_no_step_begins_once_the_run_was_told_to_stop() -> None:
    life = Lifecycle()
    assert life.may_begin_step
    life.told(Ending.HANDED_BACK)
    assert not life.may_begin_step


def test_a_run_leaves_once() -> None:
    life = stopping(Ending.SUSPENDED)
    assert life.leaves()
    assert not life.leaves(), "another of its steps has ended"


def test_who_leaves_and_is_fenced_off_tells_the_store_nothing_more() -> None:
    """S9.4: it would refuse; another reason comes too late."""
    life = stopping(Ending.CANCELLED)
    life.leaves()
    endings = []
    for ending in (Ending.HANDED_BACK, Ending.FENCED):
        assert not life.told(ending)
        endings.append(life.ending)
    assert endings == [Ending.CANCELLED, Ending.FENCED]


def test_what_the_handler_came_to_beats_being_told_to_stop() -> None:
    """The store decides, when it is told of the end."""
    life = Lifecycle()
    assert life.finishes()
    assert not life.told(Ending.CANCELLED)
    assert life.ending is Ending.FINISHED
    assert life.finishes(), "as a cancelled run: so the store has answered"


def test_a_run_that_is_not_to_be_tried_again_stops_as_a_cancelled_one() -> None:
    life = Lifecycle()
    life.finishes()
    assert life.refused()
    assert (life.phase, life.ending) == (Phase.STOPPING, Ending.CANCELLED)
    assert life.leaves()
    assert life.finishes()


@pytest.mark.parametrize("is_over", [False, True])
def test_a_run_that_was_given_away_is_ended_by_others(is_over: bool) -> None:
    """S9.8: the engine has failed under it."""
    life = Lifecycle()
    assert life.breaks()
    if is_over:
        life.ends()
    assert not life.breaks()
    assert not life.finishes()
    assert not life.refused()
    assert not life.told(Ending.FENCED)
    assert life.ending is Ending.BROKEN


def test_a_run_is_over_and_released_once() -> None:
    life = Lifecycle()
    life.finishes()
    assert [life.ends(), life.ends()] == [True, False]
    assert [life.released(), life.released()] == [True, False]


def test_a_run_can_not_be_released_before_the_store_knows_of_its_end() -> None:
    with pytest.raises(AssertionError, match="a run that is EXECUTING can't become RELEASED"):
        Lifecycle().released()


def test_a_handler_that_comes_to_its_end_without_its_offered_step_counts_once() -> None:
    """S4.4."""
    life = Lifecycle()
    assert life.misses()
    assert not life.misses()
    assert not life.may_begin_step


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("told"), st.sampled_from(TOLD)),
            st.tuples(st.sampled_from(["leaves", "breaks", "misses"])),
        )
    )
)
def test_what_may_come_at_any_time_never_makes_an_illegal_move(events: list[tuple[str, ...]]) -> None:
    """Messages, answers of the store and errors come in any order: each is either a move of the table, or ignored."""
    life = Lifecycle()
    for name, *args in events:
        before = life.phase
        getattr(life, name)(*args)
        assert life.phase is before or life.phase in MOVES[before]
        assert (life.phase is Phase.EXECUTING) == (life.ending is None)
