"""The scripts of a package as they are sent, linked ahead of time: to link them took longer than all else that starts a worker.

`lua/` has the scripts, `lua/includes/` what they share, and `lua/linked/` the scripts with what each uses of that (`library`), and
the digest of the files that they were made of. With another digest, as after an edit, each process links them anew: never wrong,
but 0.3 s later. `python -m tests.store.test_scripts` writes them, and a test compares them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from taskflow.redis.signature import Signature, parse_signature

ARGUMENTS = re.compile(r"^--@(argv|together) (.+)$", re.MULTILINE)
HEADER = re.compile(r"\A-- (?P<name>\w+): .+?^-- KEYS   1 \w.+?^-- Reply  ", re.MULTILINE | re.DOTALL)


class Sources(NamedTuple):
    """The files of a package's folder `lua`, by name."""

    folder: Path
    scripts: Mapping[str, str]
    includes: Mapping[str, str]

    @property
    def digest(self) -> str:
        texts = [f"{name}\0{text}\0" for part in (self.scripts, self.includes) for name, text in part.items()]
        return hashlib.sha1("".join(texts).encode(), usedforsecurity=False).hexdigest()


def read_sources(package: str) -> Sources:
    # Not by importlib.resources, whose import takes 6 ms.
    folder = Path(import_module(package).__path__[0]) / "lua"
    return Sources(folder, read_texts(folder), read_texts(folder / "includes"))


def read_texts(folder: Path) -> dict[str, str]:
    """The Lua files of a folder by name; empty if there is no such folder."""
    if not folder.is_dir():
        return {}
    names = sorted(name.removesuffix(".lua") for name in os.listdir(folder) if name.endswith(".lua"))
    return {name: (folder / f"{name}.lua").read_text("utf-8") for name in names}


def read_linked(sources: Sources) -> dict[str, str] | None:
    """The linked scripts by name, or None if they were made of other files."""
    folder = sources.folder / "linked"
    try:
        if (folder / "digest").read_text("utf-8").strip() != sources.digest:
            return None
    except FileNotFoundError:
        return None
    return read_texts(folder)


def link(sources: Sources) -> dict[str, str]:
    """Link the scripts. Raises ValueError when a header is not right."""
    # Only who edits a script needs it.
    from taskflow.redis.library import Library, strip

    library = Library(sources.includes)
    linked = {}
    for name, text in sources.scripts.items():
        header = HEADER.match(text)
        if header is None or header["name"] != name:
            raise ValueError(f"{name}.lua: the header must be '-- {name}: ...' with KEYS and Reply")
        try:
            linked[name] = library.expand(signature_of(text).bind_lua(strip(text)))
        except ValueError as error:
            raise ValueError(f"{name}.lua: {error}") from error
    return linked


def write_linked(sources: Sources) -> None:
    """Link the scripts, and write them to their folder for the next start."""
    folder, linked = sources.folder / "linked", link(sources)
    folder.mkdir(exist_ok=True)
    for name in read_texts(folder).keys() - linked.keys():
        (folder / f"{name}.lua").unlink()
    for name, text in linked.items():
        (folder / f"{name}.lua").write_text(text, "utf-8")
    (folder / "digest").write_text(f"{sources.digest}\n", "utf-8")


def signature_of(text: str) -> Signature:
    named: dict[str, str] = {"argv": "", "together": ""}
    for kind, rest in ARGUMENTS.findall(text):
        named[kind] += " " + rest
    return parse_signature(named["argv"], named["together"])
