"""What `pip install` puts on a machine: all that taskflow needs at run time, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def data_files() -> set[str]:
    """Files of the package that are no Python, as git knows them: scripts in Lua, and the mark that it is typed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "taskflow"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    return {name for name in listed if (ROOT / name).exists() and not name.endswith(".py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, timeout=50
    )
    return folder


def test_the_wheel_has_the_package_with_its_data_and_entry_points(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        told = archive.read(entry_points).decode()
    assert {"taskflow/py.typed", "taskflow/cli.py"} <= names
    assert any(name.endswith(".lua") for name in names)
    assert data_files() <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"taskflow"}
    assert "taskflow = taskflow.__main__:main" in told
    assert "[pytest11]\ntaskflow.testing.plugin = taskflow.testing.plugin" in told


def test_the_sdist_has_what_the_wheel_is_built_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "taskflow/py.typed", *data_files()} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in names)
