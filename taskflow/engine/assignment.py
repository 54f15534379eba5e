"""What a process executes: a whole run, or one step of a run that another process offered for want of a slot. Rule S4.4.

For one step, the handler is called over the memos until it comes to that step, which executes. Everything else that has no memo
rests, and nothing but the step's outcome is stored. The run itself goes on wherever it is.
"""

from __future__ import annotations


class WholeRun:
    """The run, from its memos to its end."""

    __slots__ = ()
    step_key = ""
    is_whole = True

    def may_execute(self, key: str) -> bool:
        """Whether an operation without a memo is this process's to execute or to store."""
        return True

    def needs_slot(self, is_busy: bool) -> bool:
        """Whether a step needs a slot besides that of the run, in which another step executes."""
        return is_busy


class OneStep:
    """One offered step."""

    __slots__ = ("step_key",)
    is_whole = False

    def __init__(self, step_key: str) -> None:
        self.step_key = step_key

    def may_execute(self, key: str) -> bool:
        return key == self.step_key

    def needs_slot(self, is_busy: bool) -> bool:
        # The slot that was claimed with the step is for it, whatever else is looked up on the way.
        return False


Assignment = WholeRun | OneStep
WHOLE_RUN = WholeRun()
