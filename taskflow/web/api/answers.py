"""Answers over HTTP: JSON, and problems in the form of RFC 9457."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taskflow.errors import TaskFlowError
from taskflow.web.catalogue.problems import Kind, Problem, problem_of

logger = logging.getLogger("taskflow.web")

PROBLEM_TYPE = "application/problem+json"
# No answer is kept by caches, or taken for another type than it says.
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, {**HEADERS, **(headers or {})}, "application/json")


def problem_headers(problem: Problem) -> dict[str, str]:
    """The headers that go with a problem: when to try again, and with what to come."""
    headers = dict(HEADERS)
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(problem.retry_after_s)
    if problem.kind is Kind.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="taskflow"'
    return headers


def problem_answer(problem: Problem) -> Response:
    return Response(orjson.dumps(problem.to_json()), problem.status, problem_headers(problem), PROBLEM_TYPE)


def as_problem(error: Exception) -> Problem:
    """The problem that stands for any error; one that nobody expected is logged, and not told to the client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TaskFlowError):
        return problem_of(error)
    logger.error("a request failed", exc_info=error)
    return Problem(Kind.INTERNAL, "an error that is none of the client's making")


async def answer_error(request: Request, error: Exception) -> Response:
    """For Starlette: the answer to a request that raised."""
    if isinstance(error, HTTPException):
        where = f"{request.method} {request.url.path}"
        kind = Kind.METHOD_NOT_ALLOWED if error.status_code == 405 else Kind.NOT_FOUND
        answer = problem_answer(Problem(kind, f"there is no {where:.200}"))
        answer.headers.update(error.headers or {})
        return answer
    return problem_answer(as_problem(error))
