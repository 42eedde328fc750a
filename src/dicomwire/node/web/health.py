"""Whether the node runs, and whether it can serve: for load balancers and service managers."""

from __future__ import annotations

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dicomwire.node.web.endpoints import Endpoint, Site


async def health(request: Request, site: Site) -> Response:
    """Answer that the process runs."""
    return PlainTextResponse("ok\n")


def ready(request: Request, site: Site) -> Response:
    """Answer whether the index can be read; 503 if not."""
    with site.archive.index.reading() as connection:
        connection.execute(text("SELECT 1"))
    return PlainTextResponse("ready\n")


ENDPOINTS = [Endpoint("GET", "/health", None, health), Endpoint("GET", "/ready", None, ready)]
