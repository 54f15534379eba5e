"""Examples as their users run them: imported with the servers named by the environment."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]


@pytest.fixture
def load_example(
    valkey_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Load]:
    """Imports an example anew, so that its app belongs to this test's servers, and its files to this test's folder."""
    before = {name for name in sys.modules if name.startswith("examples")}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("TASKFLOW_BROKER", valkey_url)
    monkeypatch.setenv("TASKFLOW_STORE", valkey_url)
    monkeypatch.setenv("TASKFLOW_NAMESPACE", namespace)
    monkeypatch.setenv("SHOP_FOLDER", str(tmp_path / "shop"))
    monkeypatch.setenv("TABLES_FOLDER", str(tmp_path / "tables"))
    yield lambda name: importlib.import_module(f"examples.{name}")
    for name in [name for name in sys.modules if name.startswith("examples")]:
        del sys.modules[name]
