"""A real Chromium for tests and screenshots: Debian's, headless, that asks nobody but this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

NODE_FOLDER = Path(__file__).parent / "node"
AXE = NODE_FOLDER / "node_modules" / "axe-core" / "axe.min.js"
BROWSER_HINT = "no Chromium or no axe here: apt-get install chromium, npm install --prefix tests/web/node"
# As root Chromium has no sandbox; and it is not to look for updates, or for hosts that are none of ours.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def chromium() -> str | None:
    """The path of Chromium, or None."""
    return shutil.which("chromium")


def has_browser() -> bool:
    return chromium() is not None and AXE.exists()
