"""The reference pages leave nothing out: each script and key of the store, and each command."""

from __future__ import annotations

import re
from pathlib import Path

from taskflow.cli import SECTIONS
from taskflow.redis.scripts import load_scripts
from taskflow.store.store import PACKAGE

DOCS = Path(__file__).parents[2] / "docs"
KEY = re.compile(r"prefix \.\. '([a-z_:]+)'")
TABLE_NAME = re.compile(r"`([a-z_:]+)(?:<|`)")


def first_cells(page: str) -> str:
    """What stands in the first column of the page's tables."""
    return "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("|"))


def test_the_architecture_lists_each_script() -> None:
    listed = set(re.findall(r"`(\w+)`", first_cells((DOCS / "architecture.md").read_text())))
    assert sorted(load_scripts(PACKAGE).keys() - listed) == []


def test_the_architecture_lists_each_key_that_a_script_makes() -> None:
    listed = set(TABLE_NAME.findall(first_cells((DOCS / "architecture.md").read_text())))
    made = {name for script in load_scripts(PACKAGE).values() for name in KEY.findall(script.source)}
    # Channels stand below the table.
    assert len(made) > 40
    made -= {"child:", "done:", "watch:", "pauses:"}
    assert sorted(made - listed) == []


def test_the_command_line_page_has_a_section_of_each_command() -> None:
    headings = re.findall(r"^## (taskflow .*)$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    commands = [name for section in SECTIONS.values() for name in section]
    assert [name for name in commands if not re.search(rf"\btaskflow {name}\b", " ".join(headings))] == []
