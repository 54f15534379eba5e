"""The plan: what is struck when, from a seed. The same seed, length and broker give the same plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_GAP_S, GREATEST_GAP_S = 0.5, 3.0  # between two strikes


@dataclass(frozen=True, slots=True)
class Card:
    """What may be struck: `action` is kill, pause, cut, stall or deploy; how often in a deck; how long (s) it lasts."""

    action: str
    target: str
    count: int
    least_s: float = 0.0
    greatest_s: float = 0.0


# Of cut and stall, the targets are proxies: from producers to the broker, from workers and beats to the broker (`events`), and
# from these to the store.
DECK = (
    # A worker drains, and its successor has the newer code, as all that start from then on.
    Card("deploy", "worker", 2),
    Card("kill", "child", 8),
    Card("kill", "supervisor", 2),
    Card("kill", "host", 2),
    Card("kill", "all workers", 1),
    Card("kill", "beat", 3),
    Card("kill", "store", 2, 0.1, 4.0),
    Card("pause", "child", 2, 1.0, 15.0),
    Card("pause", "supervisor", 1, 1.0, 12.0),
    Card("pause", "supervisor", 1, 12.0, 15.0),
    Card("pause", "host", 1, 1.0, 12.0),
    Card("pause", "host", 3, 12.0, 15.0),  # declared dead after 11 s: what it commits late must be refused
    Card("pause", "beat", 1, 1.0, 9.0),
    Card("pause", "beat", 1, 9.0, 15.0),  # the lead passes meanwhile
    Card("pause", "store", 1, 1.0, 4.0),
    Card("cut", "producers", 2),
    Card("cut", "events", 2),
    Card("cut", "store", 3),
    Card("stall", "producers", 1, 1.0, 5.0),
    Card("stall", "events", 1, 1.0, 5.0),
    Card("stall", "store", 2, 1.0, 5.0),
)
BROKER_DECK = (Card("kill", "broker", 2, 0.1, 4.0), Card("pause", "broker", 1, 1.0, 4.0))


@dataclass(frozen=True, slots=True)
class Strike:
    """`at_s` after the start; a kill's `for_s` is how long a server stays dead. `pick`, in [0, 1), says which of several is hit."""

    at_s: float
    action: str
    target: str
    for_s: float
    pick: float

    def __str__(self) -> str:
        lasts = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:7.1f} s  {self.action} {self.target}{lasts}"


def make_plan(seed: int, *, length_s: float, has_own_broker: bool) -> list[Strike]:
    """Strikes in order of time, drawn from a deck that is shuffled anew when it is used up."""
    rng = random.Random(seed)
    cards = [card for card in DECK + (BROKER_DECK if has_own_broker else ()) for _ in range(card.count)]
    plan: list[Strike] = []
    deck: list[Card] = []
    at_s = rng.uniform(LEAST_GAP_S, GREATEST_GAP_S)
    while at_s < length_s:
        deck = deck or rng.sample(cards, len(cards))
        plan.append(draw(deck.pop(), at_s, rng))
        at_s += rng.uniform(LEAST_GAP_S, GREATEST_GAP_S)
    return plan


def draw(card: Card, at_s: float, rng: random.Random) -> Strike:
    return Strike(
        at_s, card.action, card.target, rng.uniform(card.least_s, card.greatest_s), pick=rng.random()
    )


def describe(plan: Sequence[Strike]) -> str:
    return "\n".join(str(strike) for strike in plan)
