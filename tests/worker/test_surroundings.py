"""What a worker changes of the process in which user code runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from taskflow.worker.child.surroundings import CALM_COLLECTOR, USUAL_COLLECTOR, calm_collector


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_the_collector_of_cycles_runs_less_often() -> None:
    gc.set_threshold(*USUAL_COLLECTOR)
    calm_collector()
    assert gc.get_threshold() == CALM_COLLECTOR
    assert CALM_COLLECTOR[0] > USUAL_COLLECTOR[0]


def test_a_threshold_that_user_code_has_chosen_stays() -> None:
    gc.set_threshold(1_234, 5, 6)
    calm_collector()
    assert gc.get_threshold() == (1_234, 5, 6)
