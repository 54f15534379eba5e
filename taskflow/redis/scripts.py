"""The Lua scripts of a package: loads them, adds the definitions that they use, and calls them by named arguments.

A script names no includes: a word that a file of `lua/includes` defines brings that definition in, and those that it uses. A
constant of an include (upper case; a literal or another constant) is written where it is used, and costs nothing at run time.

`--@finally note_census when counted`, in an include, ends each script that uses `counted` with a call of `note_census`.

`--@late finalize`, above a line that calls `finalize`, says that few calls of the script reach that line: definitions that only
`finalize` needs are made there and not at the start, since the server makes every local function anew at each call of a script, at
0.1 to 0.2 us each.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from taskflow.redis.client import StoreClient
from taskflow.redis.connection import Argument
from taskflow.redis.signature import Signature, parse_signature

T = TypeVar("T")

STRING = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""
STRING_OR_COMMENT = re.compile(rf"{STRING}|--.*")
STRING_OR_WORD = re.compile(rf"{STRING}|(?<![\w.:])[A-Za-z_]\w*")
DEFINITION = re.compile(r"local (?:function )?([\w, ]+)")
CONSTANT = re.compile(rf"local ([A-Z][A-Z0-9_]*) = (-?[\d.]+|{STRING}|[A-Z][A-Z0-9_]*)$")
FINALLY = re.compile(r"^--@finally (\w+) when (\w+)$", re.MULTILINE)
LATE = re.compile(r"^( *)--@late ([\w ]+)$", re.MULTILINE)
ARGUMENTS = re.compile(r"^--@(argv|together) (.+)$", re.MULTILINE)
HEADER = re.compile(r"\A-- (?P<name>\w+): .+?^-- KEYS   1 \w.+?^-- Reply  ", re.MULTILINE | re.DOTALL)

SMALL_GC_STEPS = """
local collect = rawget(_G, 'collectgarbage')
return collect and collect('setstepmul', 50)
"""
"""Makes the server's Lua collect garbage in steps of a quarter of the usual size (its `setstepmul` is 200).

The server forces a step after each 50th script, before its reply. At the usual size (100 KB of objects) that script took 0.4 to
2 ms longer than others, and the slowest percent of all starts half as long again. The price is 1 MB more of garbage.
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent to the server. `sha` is its name in EVALSHA."""

    name: str
    source: str
    sha: str
    signature: Signature

    @classmethod
    def of(cls, name: str, source: str, signature: Signature) -> Script:
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), signature)

    def argv(self, **named: Any) -> tuple[Argument, ...]:
        """The arguments in the script's order. Raises TypeError when one is missing or unknown."""
        arguments: tuple[Argument, ...] = callers_of(self.name, self.signature)["argv"](**named)
        return arguments


@cache
def callers_of(name: str, signature: Signature) -> dict[str, Any]:
    """The functions that `Signature.define_python` defines. They are compiled, so names cost no more than positions."""
    defined: dict[str, Any] = {}
    exec(compile(signature.define_python(name), f"<arguments of {name}.lua>", "exec"), defined)
    return defined


@cache
def load_scripts(package: str) -> dict[str, Script]:
    """Every script of the package's folder `lua` by name. Raises ValueError when a header is not right."""
    # Not by importlib.resources, whose import takes 6 ms.
    folder = Path(import_module(package).__path__[0]) / "lua"
    library = Library(
        {
            entry.name.removesuffix(".lua"): entry.read_text("utf-8")
            for entry in sorted((folder / "includes").iterdir(), key=lambda entry: entry.name)
        }
        if (folder / "includes").is_dir()
        else {}
    )
    scripts = {}
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not path.name.endswith(".lua"):
            continue
        name, text = path.name.removesuffix(".lua"), path.read_text("utf-8")
        header = HEADER.match(text)
        if header is None or header["name"] != name:
            raise ValueError(f"{path.name}: the header must be '-- {name}: ...' with KEYS and Reply")
        try:
            signature = signature_of(text)
            scripts[name] = Script.of(name, library.expand(signature.bind_lua(strip(text))), signature)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return scripts


def signature_of(text: str) -> Signature:
    named: dict[str, str] = {"argv": "", "together": ""}
    for kind, rest in ARGUMENTS.findall(text):
        named[kind] += " " + rest
    return parse_signature(named["argv"], named["together"])


class Uses(NamedTuple):
    """The definitions of the library that a piece of code uses."""

    named: tuple[str, ...]  # the definitions that it names, in the order of the text
    early: frozenset[str]  # those of them that are not late here
    late: tuple[tuple[str, ...], ...]  # its late marks


class Library:
    """The definitions of all includes, and which of them a script needs: those that it names, and those that these name."""

    def __init__(self, includes: Mapping[str, str]) -> None:
        self.constants: dict[str, str] = {}
        self.pieces: dict[str, str] = {}  # by name; a definition of several names stands under each of them
        self.last_calls = [found for text in includes.values() for found in FINALLY.findall(text)]
        for include, text in includes.items():
            for piece in split_definitions(strip(text)):
                self.define(piece, include)
        self.pieces = {name: inline(piece, self.constants) for name, piece in self.pieces.items()}
        # Caches: each script asks for the same definitions, and without these two every process would start 0.15 s later.
        self.read: dict[str, Uses] = {}
        self.reached: dict[str, frozenset[str]] = {}

    def uses(self, text: str) -> Uses:
        uses = self.read.get(text)
        if uses is None:
            late = tuple(late_names(text))
            named = self.names_in(text)
            early = frozenset(self.names_in(LATE.sub("", text)) if late else named) - names_in(late)
            uses = self.read[text] = Uses(named, early, late)
        return uses

    def names_in(self, text: str) -> tuple[str, ...]:
        """The definitions that the code names, in the order of the code."""
        # Strings need no special care: quoted text is never the name of a definition.
        return tuple(dict.fromkeys(filter(self.pieces.__contains__, STRING_OR_WORD.findall(text))))

    def define(self, piece: str, include: str) -> None:
        constant = CONSTANT.match(piece)
        for name in defined_names(piece):
            if name in self.pieces or name in self.constants:
                raise ValueError(f"includes/{include}.lua: {name} is defined twice")
            if constant:
                self.constants[name] = self.constants.get(constant[2], constant[2])
            else:
                self.pieces[name] = piece

    def expand(self, body: str) -> str:
        """The code of a script, with the definitions that it needs in front."""
        body = self.with_last_calls(inline(body, self.constants))
        late = self.late_blocks(body)
        early = self.closure(self.uses(body).early - names_in(late))
        inner = [self.closure(block) for block in late]
        # A definition that two late blocks need is made once, early: it may hold state that both change.
        shared = {piece for one in inner for other in inner if one is not other for piece in one & other}
        early |= self.closure(word for piece in shared for word in defined_names(piece))
        makers = {
            block[0]: self.make_late(block, self.in_order(pieces - early))
            for block, pieces in zip(late, inner, strict=True)
        }
        text = "\n".join(self.in_order(early, makers=makers, last=body))
        return (LATE.sub(call_late, text) if late else text) + "\n"

    def make_late(self, block: tuple[str, ...], pieces: list[str]) -> str:
        """A Lua function that makes the late definitions at its first call, and keeps them."""
        first, names = block[0], ", ".join(block)
        made = f"unpack(made_{first})" if len(block) > 1 else f"made_{first}"
        text = "\n".join(
            [
                f"local made_{first}",
                f"local function late_{first}()",
                f"if made_{first} then return {made} end",
                *pieces,
                f"made_{first} = {f'{{{names}}}' if len(block) > 1 else first}",
                f"return {names}",
                "end",
            ]
        )  # fmt: skip
        # The function uses what its pieces use. That is known, so its own long text need not be parsed.
        uses = [self.uses(piece) for piece in pieces]
        named = tuple(dict.fromkeys(name for each in uses for name in each.named))
        self.read[text] = Uses(named, frozenset(named), tuple(mark for each in uses for mark in each.late))
        return text

    def with_last_calls(self, body: str) -> str:
        """The code, followed by the calls that `--@finally` asks for, if any: then the code becomes a function."""
        used = self.closure({*self.uses(body).named}.union(*self.late_blocks(body)))
        calls = [name for name, word in self.last_calls if self.pieces[word] in used]
        if not calls:
            return body
        ends = "".join(f"{name}()\n" for name in calls)
        return f"local function main()\n{body}end\nlocal reply = main()\n{ends}return reply\n"

    def late_blocks(self, body: str) -> list[tuple[str, ...]]:
        """The names in each `--@late` mark of the script and of the definitions that it uses."""
        blocks: list[tuple[str, ...]] = []
        while True:
            pieces = self.closure({*self.uses(body).named}.union(*blocks))
            found = dict.fromkeys(block for text in [body, *sorted(pieces)] for block in self.uses(text).late)
            if found.keys() <= set(blocks):
                return blocks
            blocks = list(found)

    def closure(self, words: Iterable[str]) -> set[str]:
        """The definitions that these words name, directly or through other definitions, but not through a late mark."""
        used: set[str] = set()
        for word in words:
            if word in self.pieces:
                used |= self.reach(word)
        return used

    def reach(self, name: str) -> frozenset[str]:
        """The closure of one name."""
        reached = self.reached.get(name)
        if reached is None:
            used: set[str] = set()
            rest = [name]
            while rest:
                piece = self.pieces[rest.pop()]
                if piece not in used:
                    used.add(piece)
                    rest += self.uses(piece).early
            reached = self.reached[name] = frozenset(used)
        return reached

    def in_order(
        self, pieces: set[str], *, makers: Mapping[str, str] | None = None, last: str = ""
    ) -> list[str]:
        """The definitions in order: each stands behind those that it names, and a maker of late ones before its first use."""
        ordered: dict[str, None] = {}
        under_way: set[str] = set()

        def place(text: str) -> None:
            if text in ordered:
                return
            if text in under_way:
                raise ValueError(f"these definitions need each other: {text[:60]!r}")
            under_way.add(text)
            uses = self.uses(text)
            for name in uses.named:
                piece = self.pieces[name]
                if piece in pieces and piece != text:
                    place(piece)
            for block in uses.late:
                if makers and block[0] in makers:
                    place(makers[block[0]])
            ordered[text] = None

        for text in [last] if last else sorted(pieces):
            place(text)
        return [text.rstrip("\n") for text in ordered]


def call_late(match: re.Match[str]) -> str:
    names = match[2].split()
    return f"{match[1]}local {', '.join(names)} = late_{names[0]}()"


def late_names(text: str) -> list[tuple[str, ...]]:
    return [tuple(names.split()) for _, names in LATE.findall(text)]


def names_in(blocks: Iterable[tuple[str, ...]]) -> set[str]:
    return {name for block in blocks for name in block}


def strip(text: str) -> str:
    """Lua without comments and blank lines; the `--@late` marks are kept."""
    lines = []
    for line in text.splitlines():
        has_comment = "--" in line and not LATE.match(line)
        code = STRING_OR_COMMENT.sub(keep_strings, line).rstrip() if has_comment else line
        if code:
            lines.append(code)
    return "\n".join(lines) + "\n"


def keep_strings(match: re.Match[str]) -> str:
    return "" if match[0].startswith("--") else match[0]


def inline(text: str, constants: Mapping[str, str]) -> str:
    """The code with the names of these constants replaced by their values."""
    if not constants:
        return text
    names = re.compile(rf"{STRING}|(?<![\w.:])(?:{'|'.join(constants)})(?!\w)")
    return names.sub(lambda match: constants.get(match[0], match[0]), text)


def split_definitions(text: str) -> list[str]:
    """The top-level definitions of an include: each starts with `local` in the first column."""
    return [piece.rstrip() for piece in re.split(r"^(?=local )", text, flags=re.MULTILINE) if piece.strip()]


def defined_names(piece: str) -> list[str]:
    match = DEFINITION.match(piece)
    return match[1].replace(" ", "").split(",") if match else []


def words_in_order(text: str) -> Iterator[str]:
    """The names that the code uses; strings and fields of tables don't count."""
    return (word for word in STRING_OR_WORD.findall(text) if word[0] not in "'\"")


def words_of(text: str) -> set[str]:
    return set(words_in_order(text))


def loading_commands(package: str) -> list[tuple[Argument, ...]]:
    """The commands that load all scripts into a server; sent on each new connection, since a restart loses them."""
    loads: list[tuple[Argument, ...]] = [
        ("SCRIPT", "LOAD", script.source) for script in load_scripts(package).values()
    ]
    return [*loads, ("EVAL", SMALL_GC_STEPS, 0)]


class Answer(Generic[T]):
    """The reply of a script that was called already; await it when it is needed."""

    __slots__ = ("parse", "reply")

    def __init__(self, reply: asyncio.Future[Any], parse: Callable[[Any], T]) -> None:
        self.reply = reply
        self.parse = parse

    def __await__(self) -> Generator[Any, None, T]:
        return self.parse((yield from self.reply))


class Scripts:
    """Calls scripts on one partition, by the script's name and its named arguments: `scripts.lead(now_ms=..., beat_id=...)`.

    The future gives the script's reply. For a script that takes items `--@together` it gives a pair: its item's reply, and the
    reply that concerns all items, which only the first of them gets, the others None.
    """

    def __init__(self, client: StoreClient, prefix: str, package: str) -> None:
        self.client = client
        self.prefix = prefix.encode()
        self.known = dict(load_scripts(package))

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[Any]]:
        """Bind a script at its first use; from then on it is an ordinary attribute."""
        if name not in self.known:
            raise AttributeError(f"there is no script {name!r}")
        script = self.known[name]
        call: Callable[..., asyncio.Future[Any]] = callers_of(name, script.signature)["bind"](
            self.client, script.sha.encode(), self.prefix
        )
        setattr(self, name, call)
        return call
