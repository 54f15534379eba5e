"""Visitor: who looks at the pages. A browser signs in with an API key, which a cookie keeps from scripts. Rules S14.4, S14.5."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from taskflow.web.api.body import read_body
from taskflow.web.api.guard import Caller, Guard
from taskflow.web.catalogue.problems import Kind, Problem

COOKIE = "taskflow_key"
THEME_COOKIE = "taskflow_theme"
THEMES = ("light", "dark")
MAX_FORM_BYTES = 1024 * 1024
KEY_LIFE_S = 30 * 24 * 3_600


async def caller_of(request: Request, guard: Guard) -> Caller:
    """The caller, by the key of the header or else of the cookie. Raises Problem."""
    headers = dict(request.headers)
    if "authorization" not in headers and (key := request.cookies.get(COOKIE)):
        headers["authorization"] = f"Bearer {key}"
    return await guard.caller(headers)


def check_same_origin(request: Request) -> None:
    """Raise Problem unless a page of this site sent the form: a browser sends its cookies with those of other sites too."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Problem(Kind.FOREIGN_ORIGIN, f"Sec-Fetch-Site must be same-origin, got {site!r:.40}")
        return
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    if urlsplit(origin).netloc != host or not host:
        raise Problem(Kind.FOREIGN_ORIGIN, f"Origin must be that of {host!r:.80}, got {origin!r:.80}")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form of this site. Raises Problem for a form of another one."""
    check_same_origin(request)
    body = await read_body(request.headers, request.receive, max_bytes=MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body)))
    except ValueError as error:
        raise Problem(Kind.INVALID_REQUEST, f"the form can't be read: {error}") from None


def came_from(request: Request) -> str:
    """The address of the page of this site that led here, below the prefix; "/" if none did."""
    page, base = urlsplit(request.headers.get("referer", "")), request.scope.get("root_path", "")
    if page.netloc != request.headers.get("host") or not page.path.startswith(f"{base}/"):
        return "/"
    return path_here(page.path.removeprefix(base) + (f"?{page.query}" if page.query else ""))


def path_here(text: str) -> str:
    """The text if it is a path of this site, as it stands below the prefix; else "/"."""
    return text if text.startswith("/") and not text.startswith("//") and "\\" not in text else "/"


def set_cookie(request: Request, answer: Response, name: str, value: str) -> None:
    """Keep a value for a month, for this site's prefix alone, out of reach of scripts and of other sites."""
    path = request.scope.get("root_path", "") or "/"
    is_secure = request.url.scheme == "https"
    answer.set_cookie(
        name, value, max_age=KEY_LIFE_S, path=path, secure=is_secure, httponly=True, samesite="strict"
    )


def theme_of(request: Request) -> str:
    """The theme that was chosen; empty if the system's counts."""
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else ""
