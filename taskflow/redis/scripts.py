"""The Lua scripts: loads them, expands their includes, checks their headers, and calls them by name."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

from taskflow.redis.client import StoreClient
from taskflow.redis.connection import Argument

T = TypeVar("T")

WORD = re.compile(r"[A-Za-z_]\w*")
DEFINITION = re.compile(r"local (?:function )?([\w, ]+)")
INCLUDE = re.compile(r"^--@include (.+)$", re.MULTILINE)
LAZY = re.compile(r"^local function load_\w+\(\)\n--@include (.+)\nreturn \w+\nend$", re.MULTILINE)
HEADER = re.compile(
    r"\A-- (?P<name>\w+): .+?^-- KEYS   1 prefix$.+?^-- ARGV   .+?^-- Reply  ", re.MULTILINE | re.DOTALL
)

SMALL_GC_STEPS = """
local collect = rawget(_G, 'collectgarbage')
return collect and collect('setstepmul', 50)
"""
"""Has the server's Lua collect garbage in steps of a quarter of the usual size (its `setstepmul` is 200).

After each 50th script, and before its reply, the server forces such a step: 100 KB of objects, which took that script 0.4 to 2 ms
longer than others, and so the slowest percent of all starts half as long again. The garbage takes 1 MB more instead.
"""


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
    """Put the includes that a script names in their place, without comments and without what the script does not use.

    The server makes every local function anew at each call, 0.1 to 0.2 us each: what is left out here is time won. So a function
    `load_x` that has only an include and `return x` takes in all that nothing but x needs; it is defined when `load_x` is called.
    """
    folder = files("taskflow.store") / "lua" / "includes"
    names = [name for match in INCLUDE.finditer(text) for name in match[1].split()]
    pieces = {name: split_definitions(strip((folder / f"{name}.lua").read_text("utf-8"))) for name in names}
    every = [piece for name in names for piece in pieces[name]]
    used = used_definitions(strip(INCLUDE.sub("", text)), every)
    early = LAZY.sub("", text)
    at_once = used_definitions(
        strip(INCLUDE.sub("", early)),
        [piece for match in INCLUDE.finditer(early) for name in match[1].split() for piece in pieces[name]],
    )

    def paste(match: re.Match[str]) -> str:
        return "\n".join(piece for name in match[1].split() for piece in pieces[name] if piece in at_once)

    def paste_late(match: re.Match[str]) -> str:
        late = "\n".join(piece for piece in every if piece in used and piece not in at_once)
        return match[0].replace(f"--@include {match[1]}", late)

    return strip(INCLUDE.sub(paste, LAZY.sub(paste_late, text)))


def strip(text: str) -> str:
    """Lua without comment lines and blank lines, but for the lines that name includes."""
    lines = text.splitlines()
    kept = [
        line for line in lines if line.strip() and (not line.lstrip().startswith("--") or INCLUDE.match(line))
    ]
    return "\n".join(kept) + "\n"


def split_definitions(text: str) -> list[str]:
    """The top-level definitions of an include: each starts with `local` in the first column."""
    return [piece.rstrip() for piece in re.split(r"^(?=local )", text, flags=re.MULTILINE) if piece.strip()]


def used_definitions(body: str, pieces: list[str]) -> set[str]:
    """Those that the script names, or that one of those names."""
    used: set[str] = set()
    words = set(WORD.findall(body))
    while True:
        found = {piece for piece in pieces if piece not in used and words.intersection(defined_names(piece))}
        if not found:
            return used
        used |= found
        for piece in found:
            words.update(WORD.findall(piece))


def defined_names(piece: str) -> set[str]:
    match = DEFINITION.match(piece)
    return set(WORD.findall(match[1])) if match else set()


def loading_commands() -> list[tuple[Argument, ...]]:
    """The commands that teach a server all scripts; sent on each new connection, since a restart forgets them."""
    loads: list[tuple[Argument, ...]] = [
        ("SCRIPT", "LOAD", script.source) for script in load_scripts().values()
    ]
    return [*loads, ("EVAL", SMALL_GC_STEPS, 0)]


class Answer(Generic[T]):
    """The reply of a script whose command is on its way, to be awaited when there is time for it."""

    __slots__ = ("parse", "reply")

    def __init__(self, reply: asyncio.Future[Any], parse: Callable[[Any], T]) -> None:
        self.reply = reply
        self.parse = parse

    def __await__(self) -> Generator[Any, None, T]:
        return self.parse((yield from self.reply))


class Scripts:
    """Calls scripts on one partition."""

    def __init__(self, client: StoreClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix.encode()
        self.sha = {name: script.sha.encode() for name, script in load_scripts().items()}

    def call_together(
        self, name: str, argv: tuple[Argument, ...], *item: Argument
    ) -> asyncio.Future[tuple[Any, Any]]:
        """Run a script that takes many items after `argv`: those of one turn of the loop go together.

        See `StoreClient.call_together`.
        """
        return self.client.call_together((b"EVALSHA", self.sha[name], b"1", self.prefix, *argv), *item)

    def call(self, name: str, *argv: Argument) -> asyncio.Future[Any]:
        """Run a script; see its header for ARGV and reply."""
        return self.client.call(b"EVALSHA", self.sha[name], b"1", self.prefix, *argv)
