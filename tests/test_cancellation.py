from datetime import timedelta
from typing import Any

import pytest

from taskflow.cancellation import Timeouts
from taskflow.errors import ConfigError


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
