"""Watches a folder for changes of Python files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

IGNORED = frozenset(
    {".taskflow", ".venv", "venv", "__pycache__", ".git", ".hg", ".tox", ".nox", "node_modules", "site-packages",
     ".mypy_cache", ".pytest_cache", ".ruff_cache", ".idea"}
)  # fmt: skip
DEBOUNCE_MS = 400  # changes less than STEP_MS apart are reported together, for at most this long
STEP_MS = 50
LOOK_UP_MS = 200  # how often an empty set is reported


def folder_to_watch(target: str, base: Path) -> Path:
    """The folder with the code of `module[:app]`: `base` if the code is in it, else the folder of its package. Imports nothing."""
    top = target.partition(":")[0].partition(".")[0]
    spec = PathFinder.find_spec(top, [str(base), *sys.path])
    if spec is None or spec.origin is None:
        return base.resolve()
    origin = Path(spec.origin).resolve()
    if origin.is_relative_to(base.resolve()) or not spec.submodule_search_locations:
        return base.resolve()
    return origin.parent


def is_code(path: str, root: Path) -> bool:
    """Whether a change of this file requires a reload."""
    if not path.endswith(".py"):
        return False
    try:
        parts = Path(path).relative_to(root).parts
    except ValueError:
        return False
    return IGNORED.isdisjoint(parts[:-1])


def changes(folder: Path, stopping: threading.Event) -> Iterator[set[Path]]:
    """Yield each set of changed files, and an empty set every LOOK_UP_MS, until `stopping` is set.

    The watch begins with the first `next`, which gives an empty set unless a file changes at once.
    """
    # Imported here: the package is compiled code, which is not needed with --no-reload.
    from watchfiles import watch

    root = folder.resolve()
    found = watch(
        root, watch_filter=lambda _, path: is_code(path, root), stop_event=stopping, debounce=DEBOUNCE_MS, step=STEP_MS,
        rust_timeout=LOOK_UP_MS, yield_on_timeout=True, raise_interrupt=False,
    )  # fmt: skip
    for batch in found:
        yield {Path(path) for _, path in batch}


def no_changes(stopping: threading.Event) -> Iterator[set[Path]]:
    """As `changes`, for --no-reload: yields empty sets only."""
    while not stopping.wait(LOOK_UP_MS / 1000):
        yield set()
