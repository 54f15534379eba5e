"""What goes on failing is said once for each cause, and once more when it is over."""

from __future__ import annotations

import logging

import pytest

from taskflow.observability.trouble import Trouble

logger = logging.getLogger("taskflow.test")


class Watch:
    seconds = 0.0

    def now_s(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_cause_is_said_once_until_it_is_over(caplog: pytest.LogCaptureFixture, watch: Watch) -> None:
    trouble = Trouble(logger, "the turn", now_s=watch.now_s)
    trouble.over()
    for _ in range(100):
        trouble.note(OSError("READONLY"))
        watch.seconds += 0.1
    trouble.note(OSError("MISCONF"), level=logging.ERROR)
    trouble.over()
    trouble.over()
    trouble.note(OSError("READONLY"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "ERROR", "WARNING", "WARNING"]
    assert caplog.messages[0].startswith("the turn fails: READONLY;")
    assert caplog.messages[2] == "the turn works again, after 10.0 s and 101 failures"


def test_errors_that_differ_in_figures_are_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(logger, "the turn")
    for number in range(10):
        trouble.note(TimeoutError(f"no answer within {number}.5 s from port {6000 + number}"))
    assert len(caplog.messages) == 1


def test_an_error_without_a_text_is_named_and_a_bug_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trouble = Trouble(logger, "the turn")
    trouble.note(KeyError(), with_traceback=True)
    assert "the turn fails: KeyError;" in caplog.messages[0]
    assert caplog.records[0].exc_info is not None
