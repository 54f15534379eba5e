"""Tells when Python files of a folder change."""

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
DEBOUNCE_MS = 400  # changes that follow each other within STEP_MS are told together, up to this long
STEP_MS = 50
LOOK_UP_MS = 200  # how often an empty set is told


def folder_to_watch(target: str, base: Path) -> Path:
    """Where the code of `module[:app]` is: `base` if it is in there, else the folder of its package. Imports nothing."""
    top = target.partition(":")[0].partition(".")[0]
    spec = PathFinder.find_spec(top, [str(base), *sys.path])
    if spec is None or spec.origin is None:
        return base.resolve()
    origin = Path(spec.origin).resolve()
    if origin.is_relative_to(base.resolve()) or not spec.submodule_search_locations:
        return base.resolve()
    return origin.parent


def is_code(path: str, root: Path) -> bool:
    """Whether a change of this file asks for a reload."""
    if not path.endswith(".py"):
        return False
    try:
        parts = Path(path).relative_to(root).parts
    except ValueError:
        return False
    return IGNORED.isdisjoint(parts[:-1])


def changes(folder: Path, stopping: threading.Event) -> Iterator[set[Path]]:
    """Each set of files that changed, and an empty set every LOOK_UP_MS, until `stopping` is set.

    The watch begins with the first `next`, which tells an empty set unless something changes at once.
    """
    # Compiled code; who runs without reload needs neither it nor the package.
    from watchfiles import watch

    root = folder.resolve()
    found = watch(
        root, watch_filter=lambda _, path: is_code(path, root), stop_event=stopping, debounce=DEBOUNCE_MS, step=STEP_MS,
        rust_timeout=LOOK_UP_MS, yield_on_timeout=True, raise_interrupt=False,
    )  # fmt: skip
    for batch in found:
        yield {Path(path) for _, path in batch}


def no_changes(stopping: threading.Event) -> Iterator[set[Path]]:
    """As `changes`, for --no-reload."""
    while not stopping.wait(LOOK_UP_MS / 1000):
        yield set()
