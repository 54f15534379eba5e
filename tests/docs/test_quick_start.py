"""The README's quick start, word for word: the file it shows under `taskflow dev`, and the commands that it gives."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.docs.blocks import REPOSITORY, blocks

T = TypeVar("T")

DEADLINE_S = 40.0


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_quick_start_of_the_readme_works_as_it_stands(tmp_path: Path) -> None:
    (source,) = [block for block in blocks("python") if block.page.name == "README.md"]
    lines = [
        line
        for block in blocks("bash")
        if block.page.name == "README.md"
        for line in block.code.splitlines()
        if line.startswith("taskflow ")
    ]
    dev, created, _, shipped, listing = lines
    assert source.code.startswith("# shop.py\n")
    assert len(source.code.splitlines()) + len(lines) < 30
    (tmp_path / "shop.py").write_text(source.code)
    with running(dev, tmp_path):
        wait_until(lambda: ask("functions", tmp_path), "the worker registers its function")
        run(created, tmp_path)
        (run_id,) = wait_until(lambda: [row["run_id"] for row in ask("runs list", tmp_path)], "the run")
        wait_until(lambda: waits_for_parcel(run_id, tmp_path), "the run waits")
        run(shipped, tmp_path)
        output = json.loads(run(f"taskflow runs wait {run_id} --timeout 20s", tmp_path))
        assert output == {"receipt": "receipt A-1: 12.50", "status": "shipped"}
        assert "completed" in run(listing, tmp_path)


def waits_for_parcel(run_id: str, folder: Path) -> bool:
    steps = ask(f"runs show {run_id}", folder)["steps"]
    return any(step["key"] == "shipped" and step["state"] == "wait" for step in steps)


def ask(command: str, folder: Path) -> Any:
    return json.loads(run(f"taskflow {command} --json", folder))


def run(line: str, folder: Path) -> str:
    done = subprocess.run(
        command_of(line), cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(line: str, folder: Path) -> Iterator[None]:
    log = folder / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command_of(line), cwd=folder, env=clean_environment(), stdout=out, stderr=out
        )
    try:
        wait_until((folder / ".taskflow" / "dev.json").exists, "taskflow dev says where it is")
        yield
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def command_of(line: str) -> list[str]:
    return [sys.executable, "-m", "taskflow", *shlex.split(line, comments=True)[1:]]


def clean_environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")}
    return {**own, "PYTHONPATH": str(REPOSITORY)}  # the code as it is here, whatever is installed


def wait_until(condition: Callable[[], T], description: str) -> T:
    give_up_s = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < give_up_s, f"waited {DEADLINE_S:g} s in vain: {description}"
        time.sleep(0.05)
    return result
