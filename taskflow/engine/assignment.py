"""Assignment: what a process executes, a whole run or one step that another process offered for want of a slot. Rule S4.4.

For one step, the handler is called over the memos until it comes to that step, which executes. All other operations without a memo
rest, and only the step's outcome is stored. The run itself goes on in its own process.
"""

from __future__ import annotations


class WholeRun:
    """A whole run, from its memos to its end."""

    __slots__ = ()
    step_key = ""
    is_whole = True

    def may_execute(self, key: str) -> bool:
        """Whether this process may execute or store this operation, which has no memo."""
        return True

    def needs_slot(self, is_busy: bool) -> bool:
        """Whether a step needs a slot of its own: another step executes in the run's slot."""
        return is_busy


class OneStep:
    """One step that another process offered."""

    __slots__ = ("step_key",)
    is_whole = False

    def __init__(self, step_key: str) -> None:
        self.step_key = step_key

    def may_execute(self, key: str) -> bool:
        return key == self.step_key

    def needs_slot(self, is_busy: bool) -> bool:
        # The step has the slot with which it was claimed, whatever else is recalled on the way.
        return False


Assignment = WholeRun | OneStep
WHOLE_RUN = WholeRun()
