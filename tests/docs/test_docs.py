"""The docs hold: code runs, links lead somewhere, commands have the options shown, and tables are complete."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from taskflow.cli import main
from taskflow.config import Settings
from taskflow.redis.scripts import load_scripts
from taskflow.store.store import PACKAGE
from tests.docs.blocks import PAGES, REPOSITORY, Block, blocks

LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_block_compiles_and_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    is_foreign = block.info != "python"  # how it is written elsewhere: "python celery"
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_foreign else 0
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec", flags=flags)
    if not is_foreign:
        for name in ("BROKER", "STORE"):
            monkeypatch.setenv(
                f"TASKFLOW_{name}", "redis://127.0.0.1:1/0"
            )  # nobody is there: nothing may connect
        exec(code, {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize(
    "line", sorted({line for block in blocks("bash") for line in block.code.splitlines()})
)
def test_commands_have_the_options_that_are_shown(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[:1] != ["taskflow"]:
        return
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        words = words[1:]
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command = found
    command.make_context(command.name, words[1:], resilient_parsing=False)


def test_every_script_is_described() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    table = text[text.index("## Scripts") : text.index("## Messages")]
    assert set(re.findall(r"`(\w+)`", table)) - {"now_ms"} == set(load_scripts(PACKAGE))


def test_every_setting_is_described() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    table = text[text.index("## Settings") : text.index("## Redis or Valkey")]
    assert set(re.findall(r"TASKFLOW_\w+", table)) == {
        f"TASKFLOW_{name.upper()}" for name in Settings.__optional_keys__
    }


def anchors(page: Path) -> set[str]:
    """The anchors that a reader's browser finds, made of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
