"""The app whose pages are tested has some more functions."""

from __future__ import annotations

import pytest

from taskflow import TaskFlow
from tests.web.pages.shown import declare_shown


@pytest.fixture
def shop(shop: TaskFlow) -> TaskFlow:
    declare_shown(shop)
    return shop
