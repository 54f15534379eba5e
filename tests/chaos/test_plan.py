"""The plan: the same seed gives the same, and everything that can be struck is."""

from __future__ import annotations

from itertools import pairwise

from chaos.plan import BROKER_DECK, DECK, GREATEST_GAP_S, LEAST_GAP_S, make_plan


def test_the_same_seed_gives_the_same_plan() -> None:
    first = make_plan(7, length_s=300, has_own_broker=True)
    assert make_plan(7, length_s=300, has_own_broker=True) == first
    assert make_plan(8, length_s=300, has_own_broker=True) != first


def test_a_longer_plan_begins_as_the_shorter_one() -> None:
    short = make_plan(7, length_s=60, has_own_broker=False)
    assert make_plan(7, length_s=300, has_own_broker=False)[: len(short)] == short


def test_in_5_minutes_everything_is_struck_that_can_be() -> None:
    plan = make_plan(1, length_s=300, has_own_broker=True)
    assert {(card.action, card.target) for card in DECK + BROKER_DECK} == {
        (strike.action, strike.target) for strike in plan
    }
    longest_s = max(strike.for_s for strike in plan if strike.action == "pause")
    assert longest_s > 11, "long enough for a host to be declared dead"
    assert all(LEAST_GAP_S <= b.at_s - a.at_s <= GREATEST_GAP_S for a, b in pairwise(plan))


def test_a_broker_that_is_the_store_is_not_struck_by_itself() -> None:
    assert "broker" not in {strike.target for strike in make_plan(1, length_s=300, has_own_broker=False)}
