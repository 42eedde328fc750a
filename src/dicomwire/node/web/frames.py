"""Frames of an instance, as they are stored or in another transfer syntax (PS3.18 Section 10.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.data.codec import is_uncompressed
from dicomwire.node.pixels.image import Image
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import INSTANCE, ROOT, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import Instance, Scope, explained, note_used, opened_image
from dicomwire.node.web.media_types import Form, accepted_by, choose
from dicomwire.node.web.multipart import BodyPart, Multipart
from dicomwire.node.web.picturing import frame_numbers
from dicomwire.node.web.representations import content_type, forms_of_frames
from dicomwire.node.web.validators import not_modified, validators


def frames(request: Request, site: Site) -> Response:
    """Answer with the frames in a list of numbers; only these are read."""
    found = Scope(request, request.path_params).one()
    with explained():
        numbers = frame_numbers(request.path_params["frames"])
    return frames_of(request, site, found, numbers)


def frames_of(
    request: Request, site: Site, found: Instance, numbers: Sequence[int] | None = None
) -> Response:
    """Return a response with frames of an instance; without `numbers` with all of them."""
    note_used(site.archive, found)
    with explained():
        with opened_image(site.archive, found) as image:
            numbers = image.every_frame() if numbers is None else image.those(numbers)
            kinds = (True, False) if len(numbers) == 1 else (True,)
            form, is_multipart = _chosen(request, forms_of_frames(image.transfer_syntax, kinds))
            fields = validators(found, *map(repr, (form, numbers, is_multipart)))
            same = not_modified(request, fields)
            if same is not None:
                return same
            if not is_multipart:
                content = _frame(site, image, numbers[0], form.transfer_syntax)
                return Response(content, media_type=content_type(form), headers=fields)
        pieces = _frames(site, found, numbers, form.transfer_syntax)
        pieces = chain([*islice(pieces, 1)], pieces)  # what fails at once has a status
    body = Multipart(form.media_type)
    parts = (BodyPart({"Content-Type": content_type(form)}, [each]) for each in pieces)
    return StreamingResponse(
        site.threads.iterate(body.pieces(parts)), media_type=body.media_type, headers=fields
    )


def _frames(site: Site, found: Instance, numbers: Sequence[int], target: str) -> Iterator[bytes]:
    with opened_image(site.archive, found) as image:
        for number in numbers:
            yield _frame(site, image, number, target)


def _frame(site: Site, image: Image, number: int, target: str) -> bytes:
    stored = image.transfer_syntax
    if stored == target or (is_uncompressed(stored) and is_uncompressed(target)):
        return image.frame(number)
    return site.renderers.recoded(image, number, target)


def _chosen(request: Request, forms: Sequence[Form]) -> tuple[Form, bool]:
    chosen = choose(accepted_by(request), forms)
    if chosen is None:
        offered = ", ".join(map(content_type, forms))
        raise Problem(406, f"they can be sent as parts of: {offered}")
    return chosen.form, chosen.is_multipart


ENDPOINTS = [Endpoint("GET", f"{ROOT}{INSTANCE}/frames/{{frames}}", UserRight.SEE, frames)]
