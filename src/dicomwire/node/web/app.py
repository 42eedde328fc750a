"""The application of a node for HTTP: it passes each request to its endpoint."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomwire.node.web import (
    bulkdata,
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
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import report, response_to
from dicomwire.node.web.page import api, system, views

ENDPOINTS: tuple[Endpoint, ...] = (
    *deleting.ENDPOINTS,
    *health.ENDPOINTS,
    *uri.ENDPOINTS,
    *retrieving.ENDPOINTS,
    *frames.ENDPOINTS,
    *metadata.ENDPOINTS,
    *bulkdata.ENDPOINTS,
    *rendered.ENDPOINTS,
    *searching.ENDPOINTS,
    *storing.ENDPOINTS,
    *views.ENDPOINTS,
    *api.ENDPOINTS,
    *system.ENDPOINTS,
)
"""All endpoints. A path that fits several is that of the first one."""


def application(site: Site) -> ASGIApp:
    """Return the ASGI application of a site."""
    return Application(site, ENDPOINTS)


class Application:
    """Answers requests by their endpoints, and answers those that fail.

    Parameters
    ----------
    site : Site
    endpoints : iterable of Endpoint
    """

    def __init__(self, site: Site, endpoints: Iterable[Endpoint]) -> None:
        self._site = site
        by_path: dict[str, dict[str, Endpoint]] = {}
        for each in endpoints:
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
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._router(scope, receive, watched)
        except Exception as error:
            if has_begun:
                # The server closes the connection, by which the client sees that the end is lost.
                report(error)
            else:
                await response_to(error)(scope, receive, send)

    def _dispatcher(self, methods: dict[str, Endpoint]) -> Any:
        async def dispatch(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await self._call(methods[method], request)

        return dispatch

    async def _call(self, endpoint: Endpoint, request: Request) -> Response:
        request.state.index = self._site.archive.index
        answer: Any = endpoint.answer
        if inspect.iscoroutinefunction(answer):
            response: Response = await answer(request, self._site)
        else:
            response = await self._site.threads.run(answer, request, self._site)
        return response
