"""The application of a node for HTTP: it passes each request to its endpoint."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomwire.node.web import (
    bulkdata,
    capabilities,
    deleting,
    frames,
    health,
    metadata,
    rendered,
    retrieving,
    searching,
    storing,
    uri,
)
from dicomwire.node.web.access_log import LoggedRequest, Observe
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem, report, response_to
from dicomwire.node.web.gate import Gate
from dicomwire.node.web.login import Login
from dicomwire.node.web.metrics import Metrics
from dicomwire.node.web.page import actions, api, ohif, system, views
from dicomwire.node.web.page.failures import for_person

ENDPOINTS: tuple[Endpoint, ...] = (
    *deleting.ENDPOINTS,
    *health.ENDPOINTS,
    *uri.ENDPOINTS,
    *retrieving.ENDPOINTS,
    *frames.ENDPOINTS,
    *metadata.ENDPOINTS,
    *bulkdata.ENDPOINTS,
    *capabilities.ENDPOINTS,
    *rendered.ENDPOINTS,
    *searching.ENDPOINTS,
    *storing.ENDPOINTS,
    *views.ENDPOINTS,
    *api.ENDPOINTS,
    *system.ENDPOINTS,
    *actions.ENDPOINTS,
)
"""All endpoints. A path that fits several is that of the first one."""


def application(site: Site) -> ASGIApp:
    """Return the ASGI application of a site."""
    gate, metrics = Gate(site.configuration), Metrics(site)
    # Last: it answers all paths that are of nobody else.
    endpoints = (*ENDPOINTS, *Login(gate).endpoints, *metrics.endpoints, *ohif.ENDPOINTS)
    return Application(site, endpoints, gate, metrics.observe)


class Application:
    """Answers requests by their endpoints, and answers those that fail.

    Parameters
    ----------
    site : Site
    endpoints : iterable of Endpoint
    gate : Gate
        Decides which user may call an endpoint, before it is called.
    observe : callable
        Called for each request that has ended; see `access_log`.

    Attributes
    ----------
    endpoints : list of Endpoint
    """

    def __init__(
        self, site: Site, endpoints: Iterable[Endpoint], gate: Gate, observe: Observe
    ) -> None:
        self._site = site
        self._gate = gate
        self.endpoints = [*endpoints]
        self._observe = observe
        by_path: dict[str, dict[str, Endpoint]] = {}
        for each in self.endpoints:
            by_path.setdefault(each.path, {})[each.method] = each
        routes = [
            Route(path, self._dispatcher(methods), methods=[*methods])
            for path, methods in by_path.items()
        ]
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # the server sends nothing else
        scope["app"] = self  # so that the router raises its errors
        is_over = threading.Event()  # tells threads that nobody waits for them any more
        scope["state"] = {
            "is_over": is_over.is_set,
            "address": self._gate.look_behind_proxies(scope),
        }
        logged = LoggedRequest(scope, send, self._observe)
        try:
            _refuse_two_lengths(scope)
            await self._router(scope, receive, logged.send)
        except Exception as error:
            if logged.has_begun:
                # The server closes the connection, by which the client sees that the end is lost.
                report(error)
            else:
                told = response_to(error)
                shown = for_person(Request(scope), told, self._site.configuration)
                await shown(scope, receive, logged.send)
        finally:
            is_over.set()
            logged.log()

    def _dispatcher(self, methods: dict[str, Endpoint]) -> Any:
        async def dispatch(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await self._call(methods[method], request)

        return dispatch

    async def _call(self, endpoint: Endpoint, request: Request) -> Response:
        request.state.endpoint = endpoint.path
        redirection = self._gate.admit(request, endpoint, self._site)
        if redirection is not None:
            return redirection
        answer: Any = endpoint.answer
        if inspect.iscoroutinefunction(answer):
            response: Response = await answer(request, self._site)
        else:
            response = await self._site.threads.run(answer, request, self._site)
        return _without_body(response) if request.method == "HEAD" else response


def _without_body(response: Response) -> Response:
    """Return a response to HEAD, so that no body is made for it."""
    head = Response(status_code=response.status_code)
    head.raw_headers = response.raw_headers
    return head


def _refuse_two_lengths(scope: Scope) -> None:
    """Refuse a request whose body ends at two places, and all after it on the connection.

    A proxy may take another one than we do, and so take one request for two (RFC 9112 11.2).
    """
    names = {name for name, _ in scope["headers"]}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise Problem(400, "the request states two lengths of its body", {"Connection": "close"})
