"""Responses with datasets, in the representation that a client accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.node.web.endpoints import Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.media_types import Form, accepted_by, choose
from dicomwire.node.web.models import Model, as_json, as_xml
from dicomwire.node.web.multipart import BodyPart, Multipart

JSON = "application/dicom+json"
XML = "application/dicom+xml"
_FORMS = (
    Form(JSON, is_default=True, kinds=(False,)),
    Form("application/json", kinds=(False,)),
    Form(XML, kinds=(True,)),
)
"""JSON is one list of all datasets; in XML, each is a part (PS3.18 Section 8.7.3.2)."""


def datasets(
    request: Request,
    site: Site,
    models: Iterable[Model],
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """Return a response with datasets; each is made and sent before the next one.

    The first one is made at once, so that what fails then has a status.

    Raises
    ------
    Problem
        406, when the client accepts neither JSON nor XML.
    """
    chosen = choose(accepted_by(request), _FORMS)
    if chosen is None:
        raise Problem(406, f"The media types are {JSON} and {XML} in multipart/related")
    models = _begun(iter(models))
    if chosen.is_multipart:
        body = Multipart(XML)
        parts = (BodyPart({"Content-Type": XML}, [as_xml(model)]) for model in models)
        pieces, media_type = body.pieces(parts), body.media_type
    else:
        pieces, media_type = _json(models), chosen.form.media_type
    response = StreamingResponse(site.threads.iterate(pieces), media_type=media_type)
    for name, value in headers:
        response.headers.append(name, value)
    return response


def _begun(models: Iterator[Model]) -> Iterator[Model]:
    first = [*islice(models, 1)]
    return chain(first, models)


def _json(models: Iterable[Model]) -> Iterator[bytes]:
    separator = b"["
    for model in models:
        yield separator + as_json(model)
        separator = b",\n"
    yield b"]\n" if separator != b"[" else b"[]\n"
