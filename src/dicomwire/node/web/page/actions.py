"""What the page does with studies that were chosen: download, send and delete them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.node.deletion import Protected, delete
from dicomwire.node.exporting.files import zip_of
from dicomwire.node.exporting.selection import found
from dicomwire.node.forwarding.requests import send
from dicomwire.node.keys import Level
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page.listing import existing, uids
from dicomwire.node.web.page.requests import answer, body_of, is_list_of, seen, wanted_of

MOST_STUDIES = 10_000
"""The most studies of a search that are downloaded, sent or deleted at once."""


def chosen(request: Request, body: dict[str, Any]) -> list[str]:
    """Return the UIDs of the studies that a request is for: listed ones, or those of a search.

    Parameters
    ----------
    body : dict
        With `studies`, a list of UIDs; or with `search`, the query of the list's address.

    Raises
    ------
    Problem
        400, if there are too many, or neither; 404 if the user sees none of them.
    """
    index = seen(request)
    listed, search = body.get("studies"), body.get("search")
    if isinstance(search, str):
        found = uids(index, wanted_of(dict(parse_qsl(search))), MOST_STUDIES + 1)
    elif listed and is_list_of(str, listed):
        found = existing(index, listed[: MOST_STUDIES + 1])
    else:
        raise Problem(400, "studies must be a list of UIDs, or search a query")
    if len(found) > MOST_STUDIES:
        raise Problem(400, f"these are more than {MOST_STUDIES} studies")
    if not found:
        raise Problem(404, "there are no such studies")
    request.state.studies = found
    return found


async def _delete(request: Request, site: Site) -> Response:
    body = await body_of(request)
    return await site.threads.run(_deleted, request, site, body)


def _deleted(request: Request, site: Site, body: dict[str, Any]) -> Response:
    try:
        done = delete(site.archive.queue, Level.STUDY, chosen(request, body))
    except Protected as error:
        raise Problem(409, _protected(len(error.uids))) from None
    return answer({"studies": done.studies, "objects": done.instances, "bytes": done.bytes})


def _protected(number: int) -> str:
    return f"{number} of them are protected" if number > 1 else "the study is protected"


async def _send(request: Request, site: Site) -> Response:
    body = await body_of(request)
    return await site.threads.run(_sent, request, site, body)


def _sent(request: Request, site: Site, body: dict[str, Any]) -> Response:
    name = body.get("destination")
    if not isinstance(name, str) or name not in site.archive.configuration.destinations:
        raise Problem(400, "there is no such destination")
    number = send(site.archive.queue, Level.STUDY, chosen(request, body), name)
    return answer({"objects": number})


def _zip(request: Request, site: Site) -> Response:
    """Answer with a ZIP of the studies that the query lists, or of those that it searches for."""
    listed = request.query_params.getlist("study")
    body = {"studies": listed} if listed else {"search": request.url.query}
    objects = found(request.state.index, Level.STUDY, chosen(request, body))
    if not objects:
        raise Problem(404, "the studies have no objects")
    request.state.study = " ".join(listed)
    pieces = zip_of(site.archive, objects)
    fields = {"Content-Disposition": 'attachment; filename="dicom.zip"'}
    return StreamingResponse(site.threads.iterate(pieces), 200, fields, "application/zip")


ENDPOINTS = [
    Endpoint("GET", "/api/zip", UserRight.SEE, _zip),
    Endpoint("POST", "/api/send", UserRight.SEND, _send),
    Endpoint("POST", "/api/delete", UserRight.DELETE, _delete),
]
