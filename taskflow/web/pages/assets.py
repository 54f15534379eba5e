"""The style sheet, the script and the icon, each under a name with the hash of its content, so that browsers keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from taskflow.values.record import record
from taskflow.web.catalogue.problems import Kind, Problem

FOLDER = Path(__file__).parent / "assets"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
HEADERS = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}


@record
class Asset:
    """A file for browsers: its address below /assets/, its type and its bytes."""

    name: str
    media_type: str
    content: bytes


@cache
def assets() -> dict[str, Asset]:
    """All assets by the name of their file."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            found[path.name] = Asset(f"{path.stem}.{digest}{path.suffix}", TYPES[path.suffix], content)
    return found


async def serve_asset(request: Request) -> Response:
    """An asset; needs no key, since everybody has the code of taskflow."""
    name = request.path_params["name"]
    for asset in assets().values():
        if asset.name == name:
            return Response(asset.content, headers=HEADERS, media_type=asset.media_type)
    raise Problem(Kind.NOT_FOUND, f"there is no asset {name!r:.80}")
