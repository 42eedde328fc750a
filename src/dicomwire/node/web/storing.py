"""STOW-RS: the endpoints that store objects (PS3.18 Section 10.5).

`incoming` receives and stores the objects, and `stored` makes the response.
"""

from __future__ import annotations

import logging
import re
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.logs import counted
from dicomwire.node.heads import Origin
from dicomwire.node.users import User, UserRight
from dicomwire.node.web.assembling import Assembly
from dicomwire.node.web.endpoints import ROOT, STUDY, Endpoint, Site, base_url
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.incoming import (
    DICOM,
    Batches,
    Contents,
    Files,
    Incoming,
    MakeOrigin,
    Result,
)
from dicomwire.node.web.media_types import Form, accepted_by, choose
from dicomwire.node.web.models import as_json, as_xml
from dicomwire.node.web.responses import JSON, XML
from dicomwire.node.web.stored import response_module, status_of
from dicomwire.web.multipart import Malformed, MediaType, Parser, boundary_of, media_type

LOGGER = logging.getLogger("dicomwire.node")

_RETRY_AFTER = {"Retry-After": "5"}
_FORMS = (
    Form(JSON, is_default=True, kinds=(False,)),
    Form("application/json", kinds=(False,)),
    Form(XML, kinds=(False,)),
)
_LONGEST_TITLE = 16
_NOT_IN_TITLES = re.compile(r"[^ -\[\]-~]")
_KINDS = (DICOM, JSON, XML)
"""What the parameter `type` of a request may be: files, or metadata and large values."""


async def store(request: Request, site: Site) -> Response:
    """Store the objects in the body; the response has a result for each of them.

    A body of another kind is refused before it is read: a client that has sent
    `Expect: 100-continue` does not send it then.
    """
    answer = choose(accepted_by(request), _FORMS)
    if answer is None:
        raise Problem(406, f"The media types of the response are {JSON} and {XML}")
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
    request.state.studies = sorted({each.study_uid for each in results if each.study_uid})
    return _response(request, results, answer.form.media_type)


def _incoming(request: Request, site: Site) -> Incoming:
    """Return what receives the body; `Problem` if it cannot be received."""
    kind = _media_type(request)
    parts = kind.parameters.get("type", DICOM).lower()
    if kind.name != "multipart/related" or parts not in _KINDS:
        kinds = ", ".join(_KINDS)
        raise Problem(415, f"the body must be multipart/related, with one of the types {kinds}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "the body must not have a Content-Encoding")
    try:
        boundary = boundary_of(kind)
    except Malformed as fault:
        raise Problem(400, str(fault)) from None
    study = request.path_params.get("study", "")
    batches = Batches(site.archive.committer, study, _origin_of(request))
    spool, most = site.archive.spool, site.configuration.max_object or None
    contents: Contents = Files(spool, batches)
    if parts != DICOM:
        contents = Assembly(parts, spool, batches, most)
    return Incoming(Parser(boundary), batches, contents)


def _media_type(request: Request) -> MediaType:
    try:
        return media_type(request.headers.get("content-type", ""))
    except Malformed as fault:
        raise Problem(415, str(fault)) from None


def _origin_of(request: Request) -> MakeOrigin:
    """Return what makes the origin of each object: user and address."""
    user: User = request.state.user
    return partial(
        Origin,
        source_ae=_NOT_IN_TITLES.sub("_", user.name)[:_LONGEST_TITLE],
        address=request.state.address,
        studies=user.studies,
    )


def _response(request: Request, results: list[Result], media_type: str) -> Response:
    status = status_of(results)
    if status != 200:
        failed = sum(not result.is_stored for result in results)
        objects = counted(len(results), "object")
        LOGGER.warning("Not stored: %d of %s of a request", failed, objects)
    model = response_module(results, base_url(request))
    body = as_xml(model) if media_type == XML else as_json(model)
    headers = _RETRY_AFTER if status == 503 else None
    return Response(body, status, headers, media_type=media_type)


ENDPOINTS = [
    Endpoint("POST", f"{ROOT}/studies", UserRight.STORE, store),
    Endpoint("POST", ROOT + STUDY, UserRight.STORE, store),
]
