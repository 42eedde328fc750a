"""Endpoints: which request goes to which function, and which right a user needs for it.

A module with endpoints has a list `ENDPOINTS`, and `app` lists the modules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.counts import Counts
from dicomwire.node.operations import Operations
from dicomwire.node.pixels.renderers import Renderers
from dicomwire.node.users import UserRight
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.threads import Threads

ROOT = "/dicom-web"
"""The path of DICOMweb; below it are the resources of PS3.18."""
STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
"""The paths of a study, a series and an instance (PS3.18 Table 10.1.1-1), below `ROOT`."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the function of an endpoint gets besides the request."""

    archive: Archive
    configuration: Configuration
    threads: Threads
    """Where blocking work runs."""
    renderers: Renderers
    """Make pictures of frames."""
    operations: Operations
    """What the node does now."""
    address: tuple[str, int]
    """Host and port that the node listens on for DIMSE."""
    counts: Counts
    """What all processes of the node have done."""


Answer = Callable[[Request, Site], Response] | Callable[[Request, Site], Awaitable[Response]]


class Endpoint(NamedTuple):
    """A method of a path.

    Attributes
    ----------
    method, path : str
        Such as "GET" and "/dicom-web/studies/{study}"; starlette has the syntax of paths.
    right : UserRight or None
        What a user needs; None: anyone may call it.
    answer : callable
        Returns the response, or raises `errors.Problem`. A plain function runs on a thread of
        `Site.threads`, and may block. A coroutine function runs on the event loop, and must not.
    """

    method: str
    path: str
    right: UserRight | None
    answer: Answer


def base_url(request: Request) -> str:
    """Return the URL of DICOMweb as the client knows it, for the URLs in responses.

    Some clients name the address in the field Host, but not the port: it is added.
    """
    url = request.base_url
    address, port = request.scope.get("server") or ("", None)
    if url.port is None and port is not None and url.hostname in (address, "localhost"):
        url = url.replace(port=port)
    return f"{url}".rstrip("/") + ROOT


async def body_within(request: Request, most: int, noun: str) -> bytes:
    """Return the body of a request; Problem if it has more than `most` bytes."""
    body = b""
    async for data in request.stream():
        body += data
        if len(body) > most:
            raise Problem(413, f"the {noun} is too long")
    return body
