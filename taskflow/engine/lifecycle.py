"""Lifecycle: the state machine of a run in this process, up to its end here. Rules S4.3, S6.2, S9.4.

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
    """The reason why no more steps may begin."""

    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    FENCED = "fenced"
    HANDED_BACK = "handed back"
    FINISHED = "finished"
    # by a bug of the engine
    BROKEN = "broken"


# The store's verdicts that end the run here; with PARKED the claim is given up.
ENDINGS = {Verdict.FENCED: Ending.FENCED, Verdict.CANCEL: Ending.CANCELLED, Verdict.PARKED: Ending.SUSPENDED}


class Phase(Enum):
    """What happens to the run now. `moves` are the phases that may come next."""

    EXECUTING = "its handler goes on"
    STOPPING = "no step may begin any more; it leaves when the executing ones have ended"
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
    # FINISHING again: the store says that the run was cancelled, so it ends as cancelled. STOPPING: it was to be tried again.
    Phase.FINISHING: (Phase.FINISHING, Phase.STOPPING, Phase.BROKEN, Phase.OVER),
    Phase.BROKEN: (Phase.OVER,),
    Phase.OVER: (Phase.RELEASED,),
    Phase.RELEASED: (),
}
# The moves are an attribute of each phase: a look-up by an Enum key calls a Python method, and three of these a run would show.
for phase, moves in MOVES.items():
    phase.moves = moves

# Phases in which this process may not end the run any more.
GONE = (Phase.BROKEN, Phase.OVER, Phase.RELEASED)


class Lifecycle:
    """The state machine of one run in this process. It decides, and acts on nothing."""

    __slots__ = ("ending", "phase", "reason")

    def __init__(self) -> None:
        self.phase = Phase.EXECUTING
        self.ending: Ending | None = None
        # the reason of a cancellation, as JSON; empty if only the store knows it
        self.reason: bytes = b""

    @property
    def may_begin_step(self) -> bool:
        return self.ending is None

    def move(self, phase: Phase) -> None:
        assert phase in self.phase.moves, f"a run that is {self.phase.name} can't become {phase.name}"
        self.phase = phase

    def told(self, ending: Ending, reason: bytes = b"") -> bool:
        """Tell the run to stop. Returns True if it does: it then leaves as soon as nothing of it executes. Safe to repeat.

        The loss of the claim beats all other endings. A cancellation beats handing back, since others might not execute the run for
        long (S10.4). The handler's own result beats both: the store decides, when it is told.
        """
        if self.phase is Phase.LEAVING:
            # The store would refuse what it is told next.
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
        """Leave if the run was told to stop, now that nothing of it executes; return whether it does."""
        if self.phase is not Phase.STOPPING:
            return False
        self.move(Phase.LEAVING)
        return True

    def misses(self) -> bool:
        """Stop, as the handler did not come to its offered step, which can't begin any more. False if the run ends otherwise."""
        if self.ending is not None:
            return False
        self.ending = Ending.SUSPENDED
        self.move(Phase.STOPPING)
        return True

    def finishes(self) -> bool:
        """Finish: the handler has ended, or was unwound for a cancellation. False if the run was given away meanwhile."""
        if self.phase in GONE:
            return False
        self.move(Phase.FINISHING)
        self.ending = Ending.FINISHED
        return True

    def refused(self) -> bool:
        """End as cancelled instead of being tried again. False if the run was given away meanwhile."""
        if self.phase in GONE:
            return False
        self.move(Phase.STOPPING)
        self.ending = Ending.CANCELLED
        return True

    def breaks(self) -> bool:
        """Note a failure of the engine; return whether this process can still give the run away."""
        if self.phase in GONE:
            return False
        self.move(Phase.BROKEN)
        self.ending = Ending.BROKEN
        return True

    def ends(self) -> bool:
        """Note that the store knows the outcome of the run. False if that was noted before."""
        if self.phase in (Phase.OVER, Phase.RELEASED):
            return False
        self.move(Phase.OVER)
        return True

    def released(self) -> bool:
        """Note that nothing of the run is left here. False if that was noted before."""
        if self.phase is Phase.RELEASED:
            return False
        self.move(Phase.RELEASED)
        return True
