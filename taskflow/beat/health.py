"""BeatHealth: answers the probes of a beat, and gives its metrics, from what its loop has noted. Rules S13.1, S13.3."""

from __future__ import annotations

import time

from taskflow.beat.service import Beat
from taskflow.observability.families import LEADS, READY
from taskflow.observability.health import Finding, Probes
from taskflow.observability.metrics import Tally
from taskflow.values.record import record

LOOP_LIMIT_S = 10.0  # a beat runs no user code, so its loop turns each second
TURN_LIMIT_S = (
    10.0  # without a turn that went well for so long, the store does not answer: one is due each 1.2 s
)


@record(kw_only=True)
class BeatNote:
    """A beat as its loop last noted it. Times are time.monotonic()."""

    turned_s: float
    went_well_s: float | None = None
    leads: bool = False
    is_stopping: bool = False
    trouble: str = ""
    gauges: Tally | None = None  # of the store, if it leads; nobody changes them any more


class BeatHealth:
    """What a beat's probes answer. Its loop calls `note` each second; another thread asks, and reads whole notes."""

    def __init__(self) -> None:
        self.latest = BeatNote(turned_s=time.monotonic())

    def note(self, beat: Beat) -> None:
        self.latest = BeatNote(
            turned_s=time.monotonic(), went_well_s=beat.went_well_s, leads=beat.leadership.fence is not None,
            is_stopping=beat.stopping.is_set(), trouble=beat.trouble.latest if beat.trouble.failures else "",
            gauges=None if beat.gauges is None else beat.gauges.latest,
        )  # fmt: skip

    @property
    def probes(self) -> Probes:
        return Probes(live=self.live, ready=self.ready, started=self.started, metrics=self.metrics)

    def live(self) -> Finding:
        """Whether the loop turns. No server counts."""
        note = self.latest
        age_s = time.monotonic() - note.turned_s
        return self.finding(
            note, f"its event loop has stood still for {age_s:.0f} s" if age_s >= LOOP_LIMIT_S else ""
        )

    def ready(self) -> Finding:
        """Whether it leads or stands by, with a store that answers."""
        note = self.latest
        now_s = time.monotonic()
        why = ""
        if note.is_stopping:
            why = "stopping"
        elif note.went_well_s is None:
            why = note.trouble or "it has not done a turn yet"
        elif note.trouble:
            why = f"a turn fails: {note.trouble}"
        elif now_s - note.went_well_s >= TURN_LIMIT_S:
            why = f"no turn has ended for {now_s - note.went_well_s:.0f} s: the store does not answer"
        elif now_s - note.turned_s >= LOOP_LIMIT_S:
            why = f"its event loop has stood still for {now_s - note.turned_s:.0f} s"
        return self.finding(note, why)

    def started(self) -> Finding:
        """Whether it has done a turn."""
        note = self.latest
        return self.finding(note, "" if note.went_well_s is not None else "it has not done a turn yet")

    def metrics(self) -> Tally:
        tally, note = self.gauges(), self.latest
        tally.set(LEADS, note.leads)
        tally.set(READY, self.ready().ok)
        return tally

    def gauges(self) -> Tally:
        """What the beat has read in the store, as a copy."""
        tally = Tally()
        if self.latest.gauges is not None:
            tally.merge(self.latest.gauges)
        return tally

    def finding(self, note: BeatNote, why: str) -> Finding:
        return Finding(why, {"leads": note.leads})
