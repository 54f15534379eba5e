"""Where commands look: -A, options, TASKFLOW_*, and the dev server of this folder, in that order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskflow.commands.options import find_target
from taskflow.dev.directory import claimed_folder, write_info
from taskflow.errors import ConfigError
from taskflow.values.dev_server import DevInfo
from tests.commands.shell import Shell

OWN = "redis://127.0.0.1:1111/0"
DEV = "redis://127.0.0.1:2222/0"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with no TASKFLOW_* variable set."""
    for name in list(os.environ):
        if name.startswith("TASKFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def dev_info(**given: str) -> DevInfo:
    fields = {"app": "shop", "app_id": "shop", "store": DEV, "broker": DEV, "namespace": "tf"} | given
    return DevInfo(pid=os.getpid(), **fields)


def write_app(folder: Path, name: str, arguments: str) -> None:
    (folder / f"{name}.py").write_text(f"from taskflow import TaskFlow\napp = TaskFlow('shop'{arguments})\n")


def test_options_beat_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_STORE", "redis://elsewhere")
    monkeypatch.setenv("TASKFLOW_NAMESPACE", "mine")
    config = find_target(None, OWN, None, None).config
    assert (config.store, config.namespace) == (OWN, "mine")
    assert find_target(None, None, None, "yours").config.namespace == "yours"
    assert find_target(None, None, None, None).config.store == "redis://elsewhere"
    assert os.environ["TASKFLOW_STORE"] == "redis://elsewhere"


def test_urls_in_the_code_of_an_app_are_used(empty_folder: Path) -> None:
    write_app(empty_folder, "options_own", f", store={OWN!r}, broker={OWN!r}")
    target = find_target("options_own", None, None, None)
    assert (target.config.store, target.app and target.app.id) == (OWN, "shop")


def test_option_that_the_code_overrules_is_not_ignored_in_silence(empty_folder: Path) -> None:
    write_app(empty_folder, "options_overrule", f", store={OWN!r}")
    with pytest.raises(
        ConfigError, match=r"--store has no effect: the code of app 'shop' sets its own store"
    ):
        find_target("options_overrule", "redis://other", None, None)


def test_option_reaches_an_app_that_leaves_the_choice(empty_folder: Path) -> None:
    write_app(empty_folder, "options_open", "")
    assert find_target("options_open", OWN, None, None).config.store == OWN


def test_dev_server_of_this_folder_is_found(empty_folder: Path) -> None:
    write_app(empty_folder, "options_dev", "")
    with claimed_folder() as folder:
        write_info(folder, dev_info(namespace="devs"))
        target = find_target(None, None, None, None)
        assert (target.config.store, target.config.broker, target.config.namespace) == (DEV, DEV, "devs")
        assert target.dev is not None and target.dev.app_id == "shop"
        assert find_target("options_dev", None, None, None).config.store == DEV
        assert find_target(None, OWN, None, None).config.store == OWN
    assert find_target(None, None, None, None).dev is None


def test_a_dev_server_whose_own_url_is_exported_is_used_with_all_that_it_knows(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`taskflow dev` prints the line that exports its URL: other commands of that shell must go on as before."""
    monkeypatch.setenv("TASKFLOW_BROKER", DEV)
    with claimed_folder() as folder:
        write_info(folder, dev_info(namespace="devs"))
        target = find_target(None, None, None, None)
        assert target.dev is not None and target.dev.app_id == "shop"
        assert (target.config.store, target.config.namespace) == (DEV, "devs")
        assert capsys.readouterr().err == ""
        monkeypatch.setenv("TASKFLOW_BROKER", OWN)
        assert find_target(None, None, None, None).dev is None
        assert "unset TASKFLOW_BROKER" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--store", "--broker", "--namespace"])
def test_an_option_that_is_wrong_is_named_and_no_variable_is_blamed(option: str) -> None:
    outcome = Shell({}).run("runs", "list", option, "not one")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"taskflow: {option} must ")
    assert "environment" not in outcome.stderr


def test_a_command_that_does_not_exist_suggests_the_nearest() -> None:
    outcome = Shell({}).run("run", "list")
    assert outcome.code == 2
    assert "there is no command 'run'; did you mean 'runs'?" in outcome.stderr


def test_what_a_dead_dev_server_left_is_ignored(empty_folder: Path) -> None:
    folder = empty_folder / ".taskflow"
    folder.mkdir()
    write_info(folder, dev_info())  # our own pid, as after a reboot, but nobody holds the lock
    assert find_target(None, None, None, None).dev is None


def test_store_that_is_away_is_told_in_one_line() -> None:
    for command in (
        ["functions"],
        ["runs", "list"],
        ["runs", "show", "x"],
        ["runs", "wait", "x"],
        ["dead-letters"],
    ):
        outcome = Shell({}).run(*command, "--store", "redis://:secret@127.0.0.1:1")
        assert (outcome.code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(
            "taskflow: the store at 127.0.0.1:1/0 can't be reached: the connection was refused."
        )
        assert outcome.stderr.count("\n") == 1
        assert "secret" not in outcome.stderr
