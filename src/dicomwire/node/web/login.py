"""Logging in and out, for browsers; programs send a token instead."""

from __future__ import annotations

import asyncio
import logging
import math
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicomwire.logs import escaped
from dicomwire.node.web.endpoints import Endpoint, Site, body_within
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.gate import Gate, refuse_foreign
from dicomwire.node.web.page.views import login_page
from dicomwire.node.web.sessions import COOKIE, LONGEST

LOGGER = logging.getLogger("dicomwire.node")

_LONGEST_FORM = 8192
"""In bytes; name, password and path have less."""
_AT_A_TIME = 2
"""Passwords that are checked at a time: each takes 32 MB and a thread."""
_MOST_WAITING = 16
"""Attempts that wait for that; they take a second or two."""


class Login:
    """The endpoints by which a user logs in and out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._checking = asyncio.Semaphore(_AT_A_TIME)
        self._waiting = 0
        self.endpoints = [
            Endpoint("GET", "/login", None, self._show),
            Endpoint("POST", "/login", None, self._log_in),
            Endpoint("POST", "/logout", None, self._log_out),
        ]

    def _show(self, request: Request, site: Site) -> Response:
        return login_page(request, site)

    async def _log_in(self, request: Request, site: Site) -> Response:
        refuse_foreign(request)
        form = await _form_of(request)
        name, password = form.get("name", ""), form.get("password", "")
        gate, address = self._gate, request.state.address
        throttle = gate.sessions.throttle
        wait = throttle.delay(name, address)
        if wait > 0 or self._waiting >= _MOST_WAITING:
            LOGGER.warning("An attempt of %s to log in is refused: too many", address)
            raise Problem(429, "too many attempts", {"Retry-After": str(math.ceil(wait) or 1)})
        self._waiting += 1
        try:
            async with self._checking:
                user = await site.threads.run(gate.users.of_password, name, password)
        finally:
            self._waiting -= 1
        if user is None:
            LOGGER.warning("A wrong name or password from %s", address)
            text = "The name or the password is wrong."
            response = await site.threads.run(login_page, request, site, text, form.get("next"))
            response.status_code = 401
            return response
        throttle.succeeded(name, address)
        LOGGER.info("%s has logged in from %s", escaped(user.name), address)
        response = RedirectResponse(_local(form.get("next", "")), 303)
        _set_cookie(request, response, gate.sessions.begin(user), LONGEST)
        return response

    async def _log_out(self, request: Request, site: Site) -> Response:
        refuse_foreign(request)
        self._gate.sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        _set_cookie(request, response, "", 0.0)
        return response


def _set_cookie(request: Request, response: Response, secret: str, seconds: float) -> None:
    is_secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, secret, int(seconds), path="/", secure=is_secure, httponly=True, samesite="strict"
    )


def _local(path: str) -> str:
    """Return a path of this site to go to, and never another site."""
    is_local = path.startswith("/") and not path.startswith("//")
    return path if is_local and path.isprintable() and "\\" not in path else "/"


async def _form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form; `Problem` if the body is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "the body must be a form")
    body = await body_within(request, _LONGEST_FORM, "form")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=16))
    except ValueError:
        raise Problem(400, "the body is not a form") from None
