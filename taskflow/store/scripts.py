"""The Lua scripts: loads them, expands their includes, checks their headers, and calls them by name."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from taskflow.store.client import Argument, StoreClient

INCLUDE = re.compile(r"^--@include (.+)$", re.MULTILINE)
HEADER = re.compile(
    r"\A-- (?P<name>\w+): .+?^-- KEYS   1 prefix$.+?^-- ARGV   .+?^-- Reply  ", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server gets it. `sha` is what EVALSHA names it by."""

    name: str
    source: str
    sha: str


@cache
def load_scripts() -> dict[str, Script]:
    """Every script by name, includes expanded. Raises ValueError when a header doesn't say KEYS, ARGV and reply."""
    folder = files("taskflow.store") / "lua"
    scripts = {}
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not path.name.endswith(".lua"):
            continue
        name, text = path.name.removesuffix(".lua"), path.read_text("utf-8")
        header = HEADER.match(text)
        if header is None or header["name"] != name:
            raise ValueError(f"{path.name}: the header must be '-- {name}: ...' with KEYS, ARGV and Reply")
        source = expand(text)
        scripts[name] = Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
    return scripts


def expand(text: str) -> str:
    """Put the includes that a script names in their place, without comments: the server parses less."""
    folder = files("taskflow.store") / "lua" / "includes"

    def paste(match: re.Match[str]) -> str:
        return "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in match[1].split())

    lines = INCLUDE.sub(paste, text).splitlines()
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("--")) + "\n"


def loading_commands() -> list[tuple[Argument, ...]]:
    """The commands that teach a server all scripts; sent on each new connection, since a restart forgets them."""
    return [("SCRIPT", "LOAD", script.source) for script in load_scripts().values()]


class Scripts:
    """Calls scripts on one partition."""

    def __init__(self, client: StoreClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix.encode()
        self.sha = {name: script.sha.encode() for name, script in load_scripts().items()}

    def call(self, name: str, *argv: Argument) -> asyncio.Future[Any]:
        """Run a script; see its header for ARGV and reply."""
        return self.client.call(b"EVALSHA", self.sha[name], b"1", self.prefix, *argv)
