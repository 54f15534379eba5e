"""What users see of the public classes: their members, pinned in public_members.txt.

When a member has come or gone on purpose, renew the list and look at its diff: `python -m tests.test_public_members`.
A member that is not for users has a name that begins with an underscore.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

PINNED = Path(__file__).with_name("public_members.txt")
PACKAGES = ("taskflow", "taskflow.testing")


def public_classes() -> Iterator[tuple[str, type]]:
    """Every class that the packages list, but exceptions: of these the fields alone are of interest, and few have any."""
    for package in PACKAGES:
        module = import_module(package)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if isinstance(value, type) and not issubclass(value, BaseException):
                yield f"{package}.{name}", value


def members(kind: type) -> list[str]:
    """What the class and its bases of ours define, the attributes that their methods set included."""
    names: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.split(".")[0] == "taskflow":
            names |= {*vars(base), *vars(base).get("__annotations__", {}), *set_on_self(base)}
    return sorted(name for name in names if not name.startswith("_"))


def set_on_self(kind: type) -> Iterator[str]:
    """The attributes that methods of a class assign to `self`."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr


def listing() -> str:
    return "".join(
        f"{name}\n{textwrap.indent(textwrap.fill(' '.join(members(kind)), 110), '    ')}\n"
        for name, kind in public_classes()
    )


def test_members_of_the_public_classes_are_pinned() -> None:
    assert listing() == PINNED.read_text(), "if that is meant: python -m tests.test_public_members"


if __name__ == "__main__":
    PINNED.write_text(listing())
