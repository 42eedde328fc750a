"""Failures of requests: their status, and what the client and the log are told.

A body is a problem of RFC 9457, in which no traceback and no value of an object is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from dicomwire.logs import escaped
from dicomwire.node.failures import log_unexpected
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.users import UsersFailure

LOGGER = logging.getLogger("dicomwire.node")

_RETRY_AFTER = "5"
"""Seconds after which a client may ask again, while the index or the objects cannot be read."""


class Problem(HTTPException):
    """A request that fails; `errors.response_to` makes the response.

    Parameters
    ----------
    status : int
    detail : str
        A sentence for the user of the client.
    headers : mapping, optional
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)


def response_to(error: Exception) -> Response:
    """Return the response to a request that failed with `error`, and log what is our fault."""
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail, error.headers)
    report(error)
    if isinstance(error, IndexFailure):
        return _unavailable("the index cannot be read")
    if isinstance(error, UsersFailure):
        return _unavailable("the users cannot be read")
    if isinstance(error, OSError):
        return _unavailable("the objects cannot be read or written")
    return problem(500, "the log of the server says more")


def report(error: Exception) -> None:
    """Log a failure of ours in one line."""
    if isinstance(error, ClientDisconnect):
        return
    if isinstance(error, IndexFailure):
        LOGGER.error("The index cannot be read: %s", escaped(reason_of(error)))
    else:
        log_unexpected(LOGGER, error, "A request of HTTP failed")


def problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a body in `application/problem+json`."""
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {"title": title, "status": status}
    if detail and detail != title:
        body["detail"] = detail
    return Response(
        json.dumps(body), status, headers and dict(headers), media_type="application/problem+json"
    )


def _unavailable(detail: str) -> Response:
    return problem(503, detail, {"Retry-After": _RETRY_AFTER})
