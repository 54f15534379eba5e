"""`-A module[:app]`: how the app is found, and what is said when it isn't."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskflow.errors import ConfigError
from taskflow.loading import load_app

NUMBERS = itertools.count(1)
WriteModule = Callable[[str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes a module into the current folder; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"module_to_load_{next(NUMBERS)}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


ONE_APP = "from taskflow import TaskFlow\napp = TaskFlow('shop')\n"


def refusal(target: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_app(target)
    return str(caught.value)


def test_app_is_found_by_its_name_or_as_the_only_one_in_the_current_folder(write_module: WriteModule) -> None:
    name = write_module(ONE_APP)
    assert load_app(f"{name}:app").id == "shop"
    assert load_app(name) is load_app(f"{name}:app")


def test_app_inside_an_object_is_found(write_module: WriteModule) -> None:
    name = write_module("from taskflow import TaskFlow\nclass Site:\n    app = TaskFlow('shop')\n")
    assert load_app(f"{name}:Site.app").id == "shop"


def test_one_app_under_two_names_is_one(write_module: WriteModule) -> None:
    name = write_module(ONE_APP + "celery = app\n")
    assert load_app(name).id == "shop"


def test_two_apps_are_listed_for_the_user_to_choose(write_module: WriteModule) -> None:
    name = write_module(ONE_APP + "other = TaskFlow('other')\n")
    assert refusal(name).endswith(f"but it has app, other: write -A {name}:app or -A {name}:other.")
    assert refusal(f"{name}:missing").startswith(f"the module '{name}' has no 'missing'; it has app, other: ")


def test_attribute_that_is_no_app_is_named_with_its_type(write_module: WriteModule) -> None:
    name = write_module("app = 7\n")
    assert refusal(f"{name}:app").startswith(
        f"{name}:app must be a TaskFlow, or a function that returns one, but is an int; it has no TaskFlow at all"
    )


def test_a_factory_makes_the_app(write_module: WriteModule) -> None:
    name = write_module("from taskflow import TaskFlow\ndef create_app():\n    return TaskFlow('made')\n")
    assert load_app(f"{name}:create_app").id == "made"


def test_a_factory_that_fails_or_makes_no_app_is_told(write_module: WriteModule) -> None:
    name = write_module("def create_app():\n    return 7\n\ndef other(config):\n    return config\n")
    assert refusal(f"{name}:create_app") == f"{name}:create_app() must return a TaskFlow, but returned an int"
    assert refusal(f"{name}:other").startswith(f"calling {name}:other() failed:")


def test_module_that_is_not_there_is_told_from_one_that_fails(
    write_module: WriteModule, tmp_path: Path
) -> None:
    assert refusal("nowhere.tasks").startswith(
        f"there is no module 'nowhere' in {tmp_path} or elsewhere on sys.path."
    )
    name = write_module("import nowhere_else\n")
    assert refusal(name).startswith(f"importing the module '{name}' failed:")


@pytest.mark.parametrize(
    ("target", "guess"),
    [("shop.py", "shop"), ("./shop/tasks.py:app", "shop.tasks:app"), ("shop/tasks", "shop.tasks")],
)
def test_path_instead_of_a_module_is_answered_with_the_module(
    target: str, guess: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").touch()
    monkeypatch.chdir(tmp_path)
    assert refusal(target).endswith(f"did you mean -A {guess}?")


@pytest.mark.parametrize("target", ["", ":app", "a b"])
def test_what_is_no_module_is_refused_with_the_usage(target: str) -> None:
    assert "names no module: -A takes module:attribute, like shop.tasks:app" in refusal(target)


def test_traceback_holds_the_users_frames_only(write_module: WriteModule) -> None:
    inner = write_module("def divide(n):\n    return 1 / n\n")
    outer = write_module(f"from {inner} import divide\n\ndivide(0)\n")
    text = refusal(outer)
    assert f'{outer}.py", line 3, in <module>\n    divide(0)' in text
    assert f'{inner}.py", line 2, in divide\n    return 1 / n' in text
    assert "ZeroDivisionError: division by zero" in text
    assert "importlib" not in text
    assert "loading.py" not in text


def test_wrong_option_of_a_function_shows_the_users_line_and_the_remedy(write_module: WriteModule) -> None:
    name = write_module(ONE_APP + "@app.function(trigger='a', queue='no spaces please')\ndef f(ctx): ...\n")
    text = refusal(name)
    assert f'{name}.py", line 3, in <module>' in text
    assert "ConfigError: " in text
    assert "no spaces please" in text
    assert "function.py" not in text


def test_errors_that_led_to_the_error_are_shown_shortened_too(write_module: WriteModule) -> None:
    name = write_module(
        "try:\n    import nowhere_else\nexcept ImportError as error:\n    raise RuntimeError('set up') from error\n"
    )
    text = refusal(name)
    assert "No module named 'nowhere_else'" in text
    assert "RuntimeError: set up" in text
    assert "importlib" not in text


def test_syntax_error_points_at_the_place(write_module: WriteModule) -> None:
    name = write_module("x = 1\ndef f(:\n")
    text = refusal(name)
    assert f'{name}.py", line 2' in text
    assert "SyntaxError: invalid syntax" in text


def test_module_that_exits_is_no_silent_end(write_module: WriteModule) -> None:
    name = write_module("import sys\nsys.exit('no licence')\n")
    assert "SystemExit: no licence" in refusal(name)
