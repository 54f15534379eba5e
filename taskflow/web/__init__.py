"""The web: operations over HTTP, the event API that Inngest's SDKs speak, and keys. Rule S14.

Floor 7, beside the commands. `catalogue/` has the operations; `api/`, `event_api/` and `pages/` serve them, and need the extra
taskflow-durable[web]. `asgi(app)` and `wsgi(app)` mount all of it in another app, under any prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from taskflow.app import TaskFlow
from taskflow.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NEEDED = ("starlette", "uvicorn", "jinja2")


def asgi(app: TaskFlow, *, dev: bool = False) -> ASGIApp:
    """An ASGI app with the API and the event API, for FastAPI, Starlette, Django: `fastapi_app.mount("/taskflow", asgi(app))`.

    Callers need a key (`taskflow keys create`); with `dev` everybody on this machine is let in, and nobody else. Rule S14.4.
    It uses the connections of the app. Raises ConfigError if the extra is not installed.
    """
    check_installed()
    from taskflow.web.mount import MountedSite

    return MountedSite(app, dev=dev)


def wsgi(app: TaskFlow, *, dev: bool = False) -> Callable[..., Any]:
    """A WSGI app, for Flask and Django: as `asgi`, but without streams. Raises ConfigError if the extra is not installed."""
    check_installed()
    from taskflow.web.mount import MountedSite
    from taskflow.web.wsgi import WsgiAdapter

    return WsgiAdapter(MountedSite(app, dev=dev), app)


def check_installed() -> None:
    """Raise ConfigError, which names the extra, unless all is installed that the web needs."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the web needs {' and '.join(missing)}: pip install 'taskflow-durable[web]'")
