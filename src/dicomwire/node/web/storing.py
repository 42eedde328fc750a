"""STOW-RS: the endpoints that store objects (PS3.18 Section 10.5).

`incoming` receives and stores the objects, and `stored` makes the response.
"""

from __future__ import annotations

import json
import logging
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.heads import Origin
from dicomwire.node.web.endpoints import ROOT, STUDY, Endpoint, Site, UserRight
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.incoming import DICOM, Batches, Contents, Files, Incoming, Result
from dicomwire.node.web.stored import response_module, status_of
from dicomwire.web.multipart import Malformed, MediaType, Parser, boundary_of, media_type

LOGGER = logging.getLogger("dicomwire.node")

_RETRY_AFTER = {"Retry-After": "5"}
_KINDS = {DICOM: Files}
"""What takes the parts of a request, by the parameter `type` of its media type."""


async def store(request: Request, site: Site) -> Response:
    """Store the objects in the body; the response has a result for each of them.

    A body of another kind is refused before it is read: a client that has sent
    `Expect: 100-continue` does not send it then.
    """
    incoming = _incoming(request, site)
    run = site.threads.run
    try:
        try:
            async for data in request.stream():
                if data:
                    await run(incoming.feed, data)
            results = await run(incoming.finish)
        except Malformed as fault:
            results = await run(incoming.finish_after, fault)
    except Malformed as fault:
        raise Problem(400, str(fault)) from None
    finally:
        site.threads.submit(incoming.discard)
    if not results:
        raise Problem(400, "the request has no objects")
    return _response(request, results)


def _incoming(request: Request, site: Site) -> Incoming:
    """Return what receives the body; `Problem` if it cannot be received."""
    kind = _media_type(request)
    contents = _KINDS.get(kind.parameters.get("type", DICOM).lower())
    if kind.name != "multipart/related" or contents is None:
        kinds = ", ".join(_KINDS)
        raise Problem(415, f"the body must be multipart/related, with one of the types {kinds}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "the body must not have a Content-Encoding")
    try:
        boundary = boundary_of(kind)
    except Malformed as fault:
        raise Problem(400, str(fault)) from None
    study = request.path_params.get("study", "")
    batches = Batches(site.archive.committer, study, partial(Origin, source_ae=""))
    taking: Contents = contents(site.archive.spool, batches)
    return Incoming(Parser(boundary), batches, taking)


def _media_type(request: Request) -> MediaType:
    try:
        return media_type(request.headers.get("content-type", ""))
    except Malformed as fault:
        raise Problem(415, str(fault)) from None


def _response(request: Request, results: list[Result]) -> Response:
    status = status_of(results)
    if status != 200:
        failed = sum(not result.is_stored for result in results)
        LOGGER.warning("%d of %d objects of a request are not stored", failed, len(results))
    root = f"{request.url.scheme}://{request.url.netloc}{ROOT}"
    return Response(
        json.dumps(response_module(results, root)),
        status,
        _RETRY_AFTER if status == 503 else None,
        media_type="application/dicom+json",
    )


ENDPOINTS = [
    Endpoint("POST", f"{ROOT}/studies", UserRight.STORE, store),
    Endpoint("POST", ROOT + STUDY, UserRight.STORE, store),
]
