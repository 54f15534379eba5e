"""The Lua scripts of a package, as they are sent to the server (`linking`), and their calls by named arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskflow.redis.linking import link, read_linked, read_sources, signature_of
from taskflow.redis.signature import Signature
from taskflow.values.record import record

if TYPE_CHECKING:
    # A sync sender calls scripts too, and needs no event loop.
    import asyncio

    from taskflow.redis.client import StoreClient
    from taskflow.redis.connection import Argument

T = TypeVar("T")

SMALL_GC_STEPS = """
local collect = rawget(_G, 'collectgarbage')
return collect and collect('setstepmul', 50)
"""
"""Makes the server's Lua collect garbage in steps of a quarter of the usual size (its `setstepmul` is 200).

The server forces a step after each 50th script, before its reply. At the usual size (100 KB of objects) that script took 0.4 to
2 ms longer than others, and the slowest percent of all starts half as long again. The price is 1 MB more of garbage.
"""


@record
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
    sources = read_sources(package)
    linked = read_linked(sources) or link(sources)
    return {name: Script.of(name, linked[name], signature_of(text)) for name, text in sources.scripts.items()}


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
