"""What mypy and pyright know of the public names and of an application with types, and that they see an installed taskflow.

mypy reads these files with all others (`make check`); here it reads them alone, as does pyright.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = (
    ROOT / "tests/typing/public_api.py",
    ROOT / "tests/typing/typed_app.py",
    ROOT / "tests/typing/tasks_app.py",
)

SNIPPET = """\
from taskflow import Context, Step, TaskFlow

app = TaskFlow("shop")


@app.function(trigger="shop/order")
async def fulfil(ctx: Context[Step], step: Step) -> str:
    return "done"


reveal_type(fulfil.invoke().result())
"""


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """What a program prints. Its exit code is no matter here."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=100)
    return done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_mypy_in_strict_mode_agrees_with_the_samples() -> None:
    told = output_of(sys.executable, "-m", "mypy", "--strict", *SAMPLES, cwd=ROOT)
    assert told.startswith("Success"), told


@pytest.mark.timeout(120)
def test_pyright_agrees_with_the_samples() -> None:
    told = output_of(sys.executable, "-m", "pyright", *SAMPLES, cwd=ROOT)
    assert "0 errors, 0 warnings" in told, told


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment into which this checkout was installed as `pip install -e` does, without dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    output_of(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    build = "import sys, hatchling.build; print(hatchling.build.build_editable(sys.argv[1]))"
    wheel = folder / output_of(sys.executable, "-c", build, folder, cwd=ROOT).split()[-1]
    told = output_of(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check", "--no-index",
        "--no-deps", wheel,
    )  # fmt: skip
    assert told == ""
    return python


@pytest.mark.timeout(120)
def test_an_editable_install_is_seen_by_mypy(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SNIPPET)
    told = output_of(
        sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "shop.py", cwd=tmp_path
    )
    assert 'Revealed type is "builtins.str"' in told or 'Revealed type is "str"' in told, told
    assert "import-untyped" not in told and "import-not-found" not in told, told


@pytest.mark.timeout(120)
def test_an_editable_install_is_seen_by_pyright(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SNIPPET)
    told = output_of(sys.executable, "-m", "pyright", "--pythonpath", installed, "shop.py", cwd=tmp_path)
    assert 'Type of "fulfil.invoke().result()" is "str"' in told, told
    assert "could not be resolved" not in told, told
