"""How Inngest writes times and the ids of functions, and which function such an id names."""

from __future__ import annotations

from datetime import UTC, datetime

from taskflow.web.catalogue.operation import Desk
from taskflow.web.catalogue.problems import Kind, Problem


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def slug_of(function_id: str) -> str:
    """A function's id as Inngest writes it: app-function."""
    return function_id.replace("/", "-", 1)


async def function_named(desk: Desk, name: str, app_id: str | None = None) -> str:
    """The full id of the function that is called "app-function", "app/function", or of an app "function". Raises Problem."""
    known = await desk.control.functions(app_id)
    found = [each for each in known if name in (each, slug_of(each)) or each == f"{app_id}/{name}"]
    if len(found) > 1:
        told = f"{name!r:.80} may be {' or '.join(found)}: write it with a slash"
        raise Problem(Kind.INVALID_FIELD, told)
    if not found:
        raise Problem(Kind.FUNCTION_NOT_FOUND, f"there is no function {name!r:.80}: expected app-function")
    return found[0]
