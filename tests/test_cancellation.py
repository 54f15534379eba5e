from datetime import timedelta
from typing import Any

import pytest

from taskflow.errors import ConfigError
from taskflow.flow.cancel import Cancel, Cancels
from taskflow.timeouts import Timeouts


def test_timeouts_are_read_once_and_none_is_no_limit() -> None:
    timeouts = Timeouts(start="1h", step=1.5)
    assert (timeouts.start_ms, timeouts.finish_ms, timeouts.step_ms) == (3_600_000, None, 1_500)
    assert timeouts == Timeouts(start=3_600, step=timedelta(milliseconds=1_500))
    assert timeouts != Timeouts(start=3_600)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": "-1s"}, r"timeouts\.start must not be negative"),
        ({"finish": "2 years"}, r"timeouts\.finish has the unknown unit 'years'"),
        ({"finish": "400d"}, r"timeouts\.finish must be at most 1 year"),
        ({"step": 0}, r"timeouts\.step must be more than 0, got 0; for no limit leave it out"),
    ],
)
def test_a_wrong_timeout_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Timeouts(**options)


def test_a_cancel_event_is_read_once_and_none_is_no_limit() -> None:
    cancel = Cancel("undone", match="data.order", timeout="1h")
    assert (cancel.timeout_ms, Cancel("undone").timeout_ms) == (3_600_000, None)
    assert cancel == Cancel("undone", "data.order", timeout=timedelta(hours=1))
    assert cancel != Cancel("undone", "data.order")


def test_one_cancel_event_may_stand_for_a_list() -> None:
    cancel = Cancel("undone")
    assert Cancels.parse(None) is None
    assert Cancels.parse(cancel) == Cancels.parse([cancel]) == Cancels((cancel,))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"event": ""}, r"cancel event must have 1 to 256 characters, got 0"),
        ({"event": "a*b"}, r"cancel event may have a '\*' only at its end"),
        (
            {"event": "undone", "match": "data order"},
            r"cancel match must be a path .* got 'data order'; .* use if_exp",
        ),
        ({"event": "undone", "match": ""}, r"cancel match must be a path"),
        ({"event": "undone", "if_exp": "async.data."}, r"cancel if_exp"),
        ({"event": "undone", "if_exp": "other.data.x"}, r"cancel if_exp.*unknown variable 'other'"),
        ({"event": "undone", "timeout": 0}, r"cancel timeout must be more than 0, got 0"),
        ({"event": "undone", "timeout": "2 years"}, r"cancel timeout has the unknown unit 'years'"),
    ],
)
def test_a_wrong_cancel_event_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Cancel(**options)
