"""CheckedRun and CheckedStep: the views of a run and its steps, with checks that show the run's page when they fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskflow.run import RunView, StepView
from taskflow.store.operation import DONE, FAILED, PENDING

__tracebackhide__ = True  # pytest then leaves out frames of this module, and shows the test's own lines


class Anything:
    """The default of `output`: it is not checked. None could not say that, as a step may return None."""

    def __repr__(self) -> str:
        return "anything"


ANYTHING = Anything()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStep(StepView):
    """A step of a run, with checks. A plain `assert` on a field works too; the error of a check shows the run's page."""

    page: str = field(repr=False, compare=False)  # the page of the step's run

    def assert_completed(self, output: Any = ANYTHING, *, attempts: int | None = None) -> None:
        """Check that the step is done, with this output and after so many attempts, if given. Raises AssertionError."""
        self._check(self.state == DONE, f"to be done, but it is {self._told()}")
        self._check(
            output is ANYTHING or self.output == output,
            f"to return {output!r}, but it returned {self.output!r}",
        )
        self._check_attempts(attempts)

    def assert_failed(self, error: str | None = None, *, attempts: int | None = None) -> None:
        """Check that the step has failed and has no retries left. Raises AssertionError.

        `error` must be part of "Name: message" of its last error, and `attempts` the number of its attempts, if given.
        """
        self._check(self.state == FAILED, f"to have failed, but it is {self._told()}")
        self._check(
            error is None or error in self._told(), f"to fail with {error!r}, but it is {self._told()}"
        )
        self._check_attempts(attempts)

    def assert_pending(self) -> None:
        """Check that the step waits: for a time, an event, a signal, another run, or its next attempt. Raises AssertionError."""
        self._check(self.state in PENDING, f"to wait, but it is {self._told()}")

    def _check_attempts(self, attempts: int | None) -> None:
        self._check(
            attempts in (None, self.attempts), f"to take {attempts} attempts, but it took {self.attempts}"
        )

    def _check(self, holds: bool, wanted: str) -> None:
        if not holds:
            raise AssertionError(f"expected step {self.key!r} {wanted}\n{self.page}")

    def _told(self) -> str:
        """The step's state, with its error if there is one."""
        return f"{self.state} ({self.error.name}: {self.error.message})" if self.error else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun(RunView):
    """A run with checked steps, and with its `page`: the text that `taskflow runs show` prints."""

    steps: Mapping[str, CheckedStep]
    page: str = field(repr=False, compare=False)

    def step(self, key: str) -> CheckedStep:
        """The step with this key; `charge#1` is the second "charge". Raises AssertionError if the run has not reached it."""
        if key not in self.steps:
            raise AssertionError(
                f"run {self.run_id} has no step {key!r}, only {list(self.steps) or 'none at all'}\n{self.page}"
            )
        return self.steps[key]


def checked(run: RunView, *, page: str) -> CheckedRun:
    """Add checks to a view; they show this page when they fail."""
    steps = {key: CheckedStep(**facts(step, StepView), page=page) for key, step in run.steps.items()}
    return CheckedRun(**(facts(run, RunView) | {"steps": steps}), page=page)


def facts(view: RunView | StepView, kind: type[RunView | StepView]) -> dict[str, Any]:
    """The fields of a view, by name."""
    return {each.name: getattr(view, each.name) for each in dataclasses.fields(kind)}
