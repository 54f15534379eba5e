"""The tests that the docs show pass, as they stand there."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from tests.docs.blocks import Block, blocks

SHOWN = [
    block for block in blocks("python") if "\nasync def test_" in block.code or "\ndef test_" in block.code
]


def test_the_pages_show_tests() -> None:
    assert {block.page.name for block in SHOWN} >= {"testing.md", "quickstart.md"}


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_shown_test_passes(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKFLOW_TEST_SERVERS", raising=False)
    for name in ("BROKER", "STORE"):
        monkeypatch.setenv(f"TASKFLOW_{name}", "redis://127.0.0.1:1/0")  # nobody is there
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), names)
    tests: list[Callable[[], Any]] = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        if inspect.iscoroutinefunction(test):
            asyncio.run(test())
        else:
            test()
