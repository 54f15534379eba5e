"""The house: imports point down, nothing imports in a circle, modules and functions stay small.

`CONTRIBUTING.md` shows the floors. An import under `if TYPE_CHECKING` counts like any other: it silences the interpreter, not
the reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "taskflow"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("values", "errors", "types"),
    ("redis", "expressions", "observability", "codecs"),
    ("triggers", "retries", "timeouts", "event", "event_type", "event_model", "typed_data", "headers", "config", "signals",
     "context", "step", "blocking_step", "step_options", "function", "function_options", "functions", "handler_shape",
     "channel", "parameters", "call_plans", "guard", "webhook", "webhook_request", "verify", "run", "sent", "encrypted_fields",
     "flow", "middleware", "dependencies", "broker"),
    ("store", "courier", "portal"),
    ("routing", "engine", "steps", "runs", "realtime"),
    ("app", "connected_app", "operations", "tasks", "connections", "sending", "publishing", "loading", "queues"),
    ("worker", "beat", "dev", "terminal"),
    ("commands", "testing", "web", "cli", "__main__", "__init__"),
)  # fmt: skip
"""What stands on which floor, from the ground up: a module or a folder of the package imports its own floor and those below."""

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

# What does not hold yet. Each of these lists may only shrink, and is to end empty.
UPWARD: set[tuple[str, str]] = set()
MODULE_CIRCLES: set[frozenset[str]] = set()
FOLDER_CIRCLES: set[frozenset[str]] = set()
LARGE: set[str] = set()


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name without "taskflow."."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def imports() -> dict[str, set[str]]:
    """Which modules of the package each imports, at its top, in a function or for the type checker alone."""
    return {name: set(imported(path)) for name, path in modules().items()}


def imported(path: Path) -> Iterable[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "taskflow":
            for alias in node.names:
                full = f"{node.module}.{alias.name}".removeprefix("taskflow.")
                found = full if full in modules() else node.module.removeprefix("taskflow").lstrip(".")
                if found:
                    yield found
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("taskflow."):
                    yield alias.name.removeprefix("taskflow.")


def floor_of(module: str) -> int:
    place = module.split(".")[0]
    return next(number for number, floor in enumerate(FLOORS) if place in floor)


def folder_of(module: str) -> str:
    """The folder of a module; one that stands at the top of the package is a room of its own."""
    return module if modules()[module].name == "__init__.py" else module.rpartition(".")[0] or module


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The strongly connected parts of more than one node: those from which each reaches each other."""
    reach = {node: reachable(graph, node) for node in graph}
    found = (frozenset(other for other in reach[node] if node in reach[other]) for node in graph)
    return {circle for circle in found if len(circle) > 1}


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    open_nodes = [start]
    while open_nodes:
        for node in graph.get(open_nodes.pop(), ()):
            if node not in seen:
                seen.add(node)
                open_nodes.append(node)
    return seen


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_every_module_stands_on_a_floor() -> None:
    places = {module.split(".")[0] for module in modules()}
    assert places == {place for floor in FLOORS for place in floor}


def test_imports_point_down() -> None:
    found = {
        (module, target) for module, targets in imports().items() for target in targets if floor_of(target) > floor_of(module)
    }  # fmt: skip
    assert found == UPWARD


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(imports()) == MODULE_CIRCLES


def test_no_folders_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, targets in imports().items():
        graph.setdefault(folder_of(module), set()).update(
            folder_of(target) for target in targets if folder_of(target) != folder_of(module)
        )
    assert circles(graph) == FOLDER_CIRCLES


def test_modules_and_functions_are_small() -> None:
    large = set()
    for module, path in modules().items():
        text = path.read_text()
        if text.count("\n") > MAX_MODULE_LINES:
            large.add(module)
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and lines_of(node) > MAX_FUNCTION_LINES
            ):
                large.add(f"{module}:{node.name}")
    assert large == LARGE
