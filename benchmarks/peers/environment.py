"""An environment of its own for each peer, made once under `.venv-peers/`, with the versions that its module pins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Unavailable
from tests.processes import REPOSITORY

FOLDER = REPOSITORY / ".venv-peers"
TIMEOUT_S = 300.0
VERSIONS = """
import json, sys
from importlib.metadata import distributions

found = {item.metadata["Name"].lower(): item.version for item in distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What is installed for a peer: `packages` by pip, `npm_packages` by npm. Without packages it is taskflow's own."""

    name: str
    packages: Sequence[str] = ()
    npm_packages: Sequence[str] = ()
    root: Path = FOLDER

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python" if self.packages else Path(sys.executable)

    def script(self, name: str) -> Path:
        """A command that a package installed."""
        return self.python.parent / name

    def npm_file(self, path: str) -> Path:
        return self.folder / "npm" / "node_modules" / path

    def install(self) -> None:
        """Make it, unless it is there with the same packages. Raises Unavailable, which says what could not be installed."""
        wanted = json.dumps([*self.packages, *self.npm_packages])
        ready = self.folder / "ready"
        if not self.packages or (ready.exists() and ready.read_text() == wanted):
            return
        run([sys.executable, "-m", "venv", "--clear", str(self.folder)], what="a virtual environment")
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *self.packages], what=" and ".join(self.packages))
        if self.npm_packages:
            if shutil.which("npm") is None:
                raise Unavailable(f"{', '.join(self.npm_packages)}: npm is not installed on this machine")
            prefix = self.folder / "npm"
            prefix.mkdir()
            npm = ["npm", "install", "--prefix", str(prefix), "--no-audit", "--no-fund", "--silent"]
            run([*npm, *self.npm_packages], what=" and ".join(self.npm_packages))
        ready.write_text(wanted)

    def versions(self, distributions: Sequence[str]) -> Mapping[str, str]:
        """What is installed, by distribution; one that isn't is left out. npm's packages as they are pinned."""
        done = subprocess.run(
            [str(self.python), "-c", VERSIONS, *distributions], capture_output=True, text=True, check=True
        )
        found: dict[str, str] = json.loads(done.stdout)
        for package in self.npm_packages:
            name, _, version = package.rpartition("@")
            found[name] = version
        return found


def run(command: Sequence[str], *, what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what}: not installed within {TIMEOUT_S:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise Unavailable(f"{what} can't be installed here: {' '.join(lines)[-200:].strip()}")
