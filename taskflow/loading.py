"""Loads the app that `-A module[:app]` names, or says in plain words why it can't be loaded."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError

OWN_FOLDER = str(Path(__file__).parent)
USAGE = "-A takes module:attribute, like shop.tasks:app, or only the module when it has one TaskFlow"


def load_app(target: str) -> TaskFlow:
    """The app at "module:attribute", or the only TaskFlow in "module". The current folder is searched first.

    The attribute may be a factory: a function without arguments that returns the app.
    Raises ConfigError, with the user's own part of the traceback if the module or the factory fails.
    """
    module_name, _, attribute = target.partition(":")
    check_module_name(target, module_name)
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = load_module(module_name)
    return named_app(module, attribute) if attribute else only_app(module)


def check_module_name(target: str, module_name: str) -> None:
    """Raise ConfigError unless this can be the name of a module; for a path, which people write by mistake, suggest the module."""
    path, _, attribute = target.partition(":")
    is_file = path.endswith(".py") and Path(path).is_file()
    if not is_file and all(part.isidentifier() for part in module_name.split(".")):
        return
    guess = path.removesuffix(".py").strip("./").replace("/", ".")
    is_path = guess and all(part.isidentifier() for part in guess.split("."))
    hint = f"; did you mean -A {guess}{':' if attribute else ''}{attribute}?" if is_path else "."
    raise ConfigError(f"-A {target!r} names no module: {USAGE}{hint}")


def load_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"there is no module {error.name!r} in {os.getcwd()} or elsewhere on sys.path. "
                "Run taskflow in the folder that holds it, or set PYTHONPATH to that folder."
            ) from None
        raise broken_module(name, error) from error
    except SystemExit as error:
        raise broken_module(name, error) from error
    except Exception as error:
        raise broken_module(name, error) from error


def broken_module(name: str, error: BaseException) -> ConfigError:
    return broken_code(f"importing the module {name!r} failed", error)


def broken_code(what_failed: str, error: BaseException) -> ConfigError:
    """The error for users when their code raises: what failed, and the part of the traceback in their code."""
    story = traceback.TracebackException.from_exception(error)
    shorten(story)
    text = "".join(story.format()).rstrip()
    return ConfigError(f"{what_failed}:\n\n{text}\n")


def shorten(story: traceback.TracebackException) -> None:
    """Remove the frames of the import system and of taskflow, also from the errors that led to this one."""
    story.stack = traceback.StackSummary.from_list(
        [frame for frame in story.stack if is_users(frame.filename)]
    )
    for earlier in (story.__cause__, story.__context__):
        if earlier is not None:
            shorten(earlier)


def is_users(filename: str) -> bool:
    return not filename.startswith(
        (OWN_FOLDER + os.sep, "<frozen ", str(Path(os.__file__).parent / "importlib"))
    )


def named_app(module: ModuleType, attribute: str) -> TaskFlow:
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise ConfigError(
            f"the module {module.__name__!r} has no {attribute!r}; {what_it_has(module)}"
        ) from None
    if inspect.isroutine(found):
        found = call_factory(module, attribute, found)
    if not isinstance(found, TaskFlow):
        raise ConfigError(
            f"{module.__name__}:{attribute} must be a TaskFlow, or a function that returns one, but is "
            f"{article(type(found).__name__)}; "
            f"{what_it_has(module)}"
        )
    return found


def call_factory(module: ModuleType, name: str, factory: Callable[[], object]) -> TaskFlow:
    try:
        made = factory()
    except Exception as error:
        raise broken_code(f"calling {module.__name__}:{name}() failed", error) from error
    if not isinstance(made, TaskFlow):
        raise ConfigError(
            f"{module.__name__}:{name}() must return a TaskFlow, but returned {article(type(made).__name__)}"
        )
    return made


def only_app(module: ModuleType) -> TaskFlow:
    apps = list({id(app): app for app in apps_in(module).values()}.values())
    if len(apps) != 1:
        raise ConfigError(f"the module {module.__name__!r} must have one TaskFlow, but {what_it_has(module)}")
    return apps[0]


def apps_in(module: ModuleType) -> dict[str, TaskFlow]:
    return {name: value for name, value in vars(module).items() if isinstance(value, TaskFlow)}


def what_it_has(module: ModuleType) -> str:
    """A clause that names the apps of the module and says what to do; it ends the sentence of an error."""
    names = list(apps_in(module))
    if not names:
        return (
            f"it has no TaskFlow at all: define one there, app = TaskFlow({module.__name__.split('.')[0]!r})."
        )
    choices = " or ".join(f"-A {module.__name__}:{name}" for name in names)
    return f"it has {', '.join(names)}: write {choices}."


def article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
