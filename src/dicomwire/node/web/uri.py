"""WADO-URI: one object, or a picture of it, by query parameters (PS3.18 Section 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from dicomwire.data.encodings import DatasetError
from dicomwire.node.pixels.image import Image, NotAnImage
from dicomwire.node.pixels.picture import JPEG
from dicomwire.node.transcode import CannotTranscode
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import Instance, Scope, explained, note_used, opened_image
from dicomwire.node.web.media_types import Form, InvalidAccept, Range, accepted, choose
from dicomwire.node.web.picturing import frame_numbers, picture_of_uri
from dicomwire.node.web.rendered import MOVING, ONE_FRAME, Wanted, shown
from dicomwire.node.web.representations import DICOM, forms_of_object
from dicomwire.node.web.retrieving import whole

PATH = "/wado"
_UIDS = {"study": "studyUID", "series": "seriesUID", "instance": "objectUID"}
_OF_PICTURES = (
    *("annotation", "columns", "frameNumber", "imageQuality", "region", "rows"),
    *("windowCenter", "windowWidth"),
)
_UNSUPPORTED = {
    "anonymize": ("", "no"),
    "presentationUID": ("",),
    "presentationSeriesUID": ("",),
}
"""Parameters that the node refuses, since to ignore them would show something else; and the values
that it need not refuse."""


def wado(request: Request, site: Site) -> Response:
    """Answer with an object, or with a picture of it."""
    parameters = request.query_params
    _check(parameters)
    uids = {name: parameters[parameter] for name, parameter in _UIDS.items()}
    request.state.studies = [uids["study"]]
    found = Scope(request, uids).one()
    note_used(site.archive, found)
    ranges = _accepted(request)
    chosen = choose(ranges, _forms(site, found, "frameNumber" in parameters))
    if chosen is None:
        raise Problem(406, f"it can be sent as {DICOM}, or as a picture if it is an image")
    if chosen.form.media_type == DICOM:
        refused = [name for name in _OF_PICTURES if name in parameters]
        if refused:
            raise Problem(400, f"{refused[0]} is for pictures, and not for {DICOM}")
        return whole(request, site, found, chosen.form)
    picture = partial(picture_of_uri, parameters, JPEG)
    return shown(request, site, found, Wanted(ranges, picture, _numbers(parameters)))


def _check(parameters: QueryParams) -> None:
    if parameters.get("requestType") != "WADO":
        raise Problem(400, "requestType is WADO")
    for name in _UIDS.values():
        if not parameters.get(name):
            raise Problem(400, f"{name} is missing")
    for name, allowed in _UNSUPPORTED.items():
        if parameters.get(name, "") not in allowed:
            raise Problem(400, f"{name} is not supported")


def _numbers(parameters: QueryParams) -> Callable[[Image], Sequence[int]]:
    text = parameters.get("frameNumber")
    if text is None:
        return Image.every_frame
    with explained():
        listed = frame_numbers(text)
    if len(listed) > 1:
        raise Problem(400, "frameNumber is one number")
    return lambda image: image.those(listed)


def _accepted(request: Request) -> list[Range]:
    """Return the media types that a client accepts, with the transfer syntax it asks for."""
    parameters = request.query_params
    text = parameters.get("contentType")
    if text is None:
        text = ", ".join(request.headers.getlist("accept"))
    try:
        ranges = accepted(text)
    except InvalidAccept as error:
        raise Problem(400, f"contentType is not valid: {error}") from None
    syntax = parameters.get("transferSyntax", "")
    return [
        each._replace(transfer_syntax=syntax or each.transfer_syntax)
        if each.media_type == DICOM
        else each
        for each in ranges
    ]


def _forms(site: Site, found: Instance, is_of_a_frame: bool) -> list[Form]:
    """Return the representations of an object: by default, an image of one frame is a picture."""
    whole_object = forms_of_object(found.transfer_syntax_uid, (False,))
    frames = 1 if is_of_a_frame else _frames(site, found)
    if frames == 1:
        pictures = [form._replace(kinds=(False,)) for form in ONE_FRAME]
        return [*pictures, *(form._replace(is_default=False) for form in whole_object)]
    return [*whole_object, MOVING._replace(is_default=False)] if frames else whole_object


def _frames(site: Site, found: Instance) -> int:
    """Return the number of frames of an image; 0 if it is none."""
    with explained():
        try:
            with opened_image(site.archive, found) as image:
                return image.shape.frames
        except (NotAnImage, CannotTranscode, DatasetError):
            return 0


ENDPOINTS = [Endpoint("GET", PATH, UserRight.SEE, wado)]
