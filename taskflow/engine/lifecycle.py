"""Where a run stands in this process, and how it ends here. Rules S4.3, S6.2, S9.4.

EXECUTING ──told──▶ STOPPING ──nothing executes──▶ LEAVING ─┐
    │                  ▲│                           │       │
    │ handler has      ││ cancelled, instead of     │ as a  │
    │ ended            ▼│ a retry; its body ended   ▼ cancelled run
    └──────────────▶ FINISHING ◀────────────────────┘       │
                       └───────────────────────────────▶ OVER ──nothing is left──▶ RELEASED
from each of these, when the engine itself fails: ──▶ BROKEN ──▲
"""

from __future__ import annotations

from enum import Enum

from taskflow.store.claims import Verdict


class Ending(Enum):
    """Why no step may start any more."""

    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    FENCED = "fenced"
    HANDED_BACK = "handed back"
    FINISHED = "finished"
    # by a bug of the engine
    BROKEN = "broken"


# What the store's answer means for the run: PARKED has given the claim up.
ENDINGS = {Verdict.FENCED: Ending.FENCED, Verdict.CANCEL: Ending.CANCELLED, Verdict.PARKED: Ending.SUSPENDED}


class Phase(Enum):
    """What happens to the run now. `moves` are the phases that may follow."""

    EXECUTING = "its handler goes on"
    STOPPING = "no step may start any more; it leaves when the running ones have ended"
    LEAVING = "its handler is unwound, and the store told"
    FINISHING = "its handler has ended, and the store is told"
    BROKEN = "the engine failed; the run is given away"
    OVER = "the store knows; tasks may be left"
    RELEASED = "nothing of it is left here"

    moves: tuple[Phase, ...]


MOVES: dict[Phase, tuple[Phase, ...]] = {
    Phase.EXECUTING: (Phase.STOPPING, Phase.FINISHING, Phase.BROKEN),
    # FINISHING: its code was let go on (S4.7), and has ended.
    Phase.STOPPING: (Phase.STOPPING, Phase.LEAVING, Phase.FINISHING, Phase.BROKEN),
    Phase.LEAVING: (Phase.FINISHING, Phase.BROKEN, Phase.OVER),
    # Again, when the store answers that the run was cancelled: it ends as such. STOPPING: it was to be tried again.
    Phase.FINISHING: (Phase.FINISHING, Phase.STOPPING, Phase.BROKEN, Phase.OVER),
    Phase.BROKEN: (Phase.OVER,),
    Phase.OVER: (Phase.RELEASED,),
    Phase.RELEASED: (),
}
# A member is found as a key by a method in Python: three of those for each run would show.
for phase, moves in MOVES.items():
    phase.moves = moves

# The run is not this process's to end any more.
GONE = (Phase.BROKEN, Phase.OVER, Phase.RELEASED)


class Lifecycle:
    """The state machine of one resident run. It decides, and does nothing."""

    __slots__ = ("ending", "phase", "reason")

    def __init__(self) -> None:
        self.phase = Phase.EXECUTING
        self.ending: Ending | None = None
        # of a cancellation, as JSON; empty when only the store knows it
        self.reason: bytes = b""

    @property
    def may_begin_step(self) -> bool:
        return self.ending is None

    def move(self, phase: Phase) -> None:
        assert phase in self.phase.moves, f"a run that is {self.phase.name} can't become {phase.name}"
        self.phase = phase

    def told(self, ending: Ending, reason: bytes = b"") -> bool:
        """The run is to stop here. True when it does: it leaves as soon as nothing of it executes. Safe to repeat.

        Losing the claim beats all else. A cancellation beats handing back: others might not execute the run for long (S10.4).
        What the handler came to beats both: the store decides, when it is told.
        """
        if self.phase is Phase.LEAVING:
            # What the store is to be told next, it would refuse.
            if ending is Ending.FENCED:
                self.ending = ending
            return False
        if self.phase not in (Phase.EXECUTING, Phase.STOPPING):
            return False
        is_stronger = ending is Ending.CANCELLED and self.ending is Ending.HANDED_BACK
        if self.ending is None or ending is Ending.FENCED or is_stronger:
            self.ending = ending
        self.reason = self.reason or reason
        self.move(Phase.STOPPING)
        return True

    def leaves(self) -> bool:
        """Nothing of the run executes any more. True when it was told to stop, and leaves now."""
        if self.phase is not Phase.STOPPING:
            return False
        self.move(Phase.LEAVING)
        return True

    def misses(self) -> bool:
        """The handler did not come to its offered step, which can't begin any more. False when the run ends otherwise."""
        if self.ending is not None:
            return False
        self.ending = Ending.SUSPENDED
        self.move(Phase.STOPPING)
        return True

    def finishes(self) -> bool:
        """The handler has ended, or was unwound to end as a cancelled one. False when the run was given away meanwhile."""
        if self.phase in GONE:
            return False
        self.move(Phase.FINISHING)
        self.ending = Ending.FINISHED
        return True

    def refused(self) -> bool:
        """The run is not to be tried again, since it was cancelled. False when it was given away meanwhile."""
        if self.phase in GONE:
            return False
        self.move(Phase.STOPPING)
        self.ending = Ending.CANCELLED
        return True

    def breaks(self) -> bool:
        """The engine failed. True when the run still is this process's to give away."""
        if self.phase in GONE:
            return False
        self.move(Phase.BROKEN)
        self.ending = Ending.BROKEN
        return True

    def ends(self) -> bool:
        """The store knows what became of the run. False when that was so before."""
        if self.phase in (Phase.OVER, Phase.RELEASED):
            return False
        self.move(Phase.OVER)
        return True

    def released(self) -> bool:
        """Nothing of the run is left here. False when that was so before."""
        if self.phase is Phase.RELEASED:
            return False
        self.move(Phase.RELEASED)
        return True
