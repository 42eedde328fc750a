"""Rendered resources and thumbnails (PS3.18 Sections 8.3.5, 8.7.4 and 10.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.node.pixels.animation import animated
from dicomwire.node.pixels.image import Image, NotAnImage, Shape
from dicomwire.node.pixels.picture import GIF, JPEG, PNG, Picture
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import INSTANCE, ROOT, SERIES, STUDY, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import Instance, Scope, explained, note_used, opened_image
from dicomwire.node.web.media_types import Chosen, Form, Range, accepted_by, choose
from dicomwire.node.web.multipart import BodyPart, Multipart
from dicomwire.node.web.picturing import frame_numbers, picture_of, within
from dicomwire.node.web.validators import not_modified, validators

ONE_FRAME = (
    Form(JPEG, is_default=True, kinds=(False, True)),
    Form(PNG, kinds=(False, True)),
    Form(GIF, kinds=(False, True)),
)
"""The representations of one frame (PS3.18 Table 8.7.4-1)."""
MOVING = Form(GIF, is_default=True, kinds=(False,))
_SEVERAL = (
    Form(JPEG, is_default=True, kinds=(True,)),
    Form(PNG, kinds=(True,)),
    Form(GIF, kinds=(True,)),
)
_EXAMPLES = 8
"""How many series of a study are tried for a picture of it: others may have no images."""
_USUAL_TIME = 100.0
"""Milliseconds for which a frame of a moving picture is shown, if the object does not say that."""


class Wanted(NamedTuple):
    """What a request wants to see of an instance."""

    ranges: list[Range]
    """The media types that the client accepts."""
    picture: Callable[[Shape], Picture]
    """Returns how to render a frame of an image of a certain size."""
    numbers: Callable[[Image], Sequence[int]]
    """Returns which frames to show."""


def rendered(request: Request, site: Site) -> Response:
    """Answer with pictures of a study, series, instance, or of frames."""
    ranges, picture = accepted_by(request), _picture(request)
    scope = Scope(request, request.path_params)
    first, *others = scope.some(2)
    note_used(site.archive, first)
    if others and "instance" not in request.path_params:
        return _of_several(site, scope, ranges, picture)
    return shown(request, site, first, _wanted(request, ranges, picture, Image.every_frame))


def thumbnail(request: Request, site: Site) -> Response:
    """Answer with a small picture of a study, series or instance, or of a frame."""
    ranges, picture = accepted_by(request), _picture(request, is_thumbnail=True)
    wanted = _wanted(request, ranges, picture, _example)
    scope = Scope(request, request.path_params)
    if "instance" in request.path_params:
        return shown(request, site, scope.one(), wanted)
    problem = Problem(404, "there is no such object")
    for found in scope.examples(_EXAMPLES):
        try:
            return shown(request, site, found, wanted)
        except Problem as error:
            if error.status_code != 406:
                raise
            problem = error
    raise problem


def _wanted(
    request: Request,
    ranges: list[Range],
    picture: Picture,
    numbers_of: Callable[[Image], Sequence[int]],
) -> Wanted:
    listed = request.path_params.get("frames")
    if listed is None:
        return Wanted(ranges, partial(within, picture), numbers_of)
    with explained():
        numbers = frame_numbers(listed)
    return Wanted(ranges, partial(within, picture), lambda image: image.those(numbers))


def _picture(request: Request, is_thumbnail: bool = False) -> Picture:
    with explained():
        return picture_of(request.query_params, JPEG, is_thumbnail)


def _example(image: Image) -> list[int]:
    """Return the frame that the object names as representative, or the middle one."""
    frames = image.shape.frames
    number = image.dataset.get("RepresentativeFrameNumber")
    if isinstance(number, int) and 1 <= number <= frames:
        return [number]
    return [(frames + 1) // 2]


# --- One instance -----------------------------------------------------------------------------


def shown(request: Request, site: Site, found: Instance, wanted: Wanted) -> Response:
    """Answer with pictures of an instance: one, one that moves, or several parts."""
    with explained(), opened_image(site.archive, found) as image:
        numbers = wanted.numbers(image)
        forms = ONE_FRAME if len(numbers) == 1 else (MOVING, *_SEVERAL)
        form, is_multipart = _chosen(wanted.ranges, forms)
        picture = wanted.picture(image.shape)._replace(media_type=form.media_type)
        fields = validators(found, *map(repr, (picture, numbers, is_multipart)))
        same = not_modified(request, fields)
        if same is not None:
            return same
        if len(numbers) == 1 and not is_multipart:
            content = site.renderers.rendered(image, numbers[0], picture)
            return Response(content, media_type=form.media_type, headers=fields)
        duration = _duration(image)
    pictures = _begun(_pictures(site, found, picture, numbers))
    if is_multipart:
        return _parts(site, pictures, form.media_type, fields)
    pieces = animated(pictures, duration)
    return StreamingResponse(site.threads.iterate(pieces), media_type=GIF, headers=fields)


def _pictures(
    site: Site, found: Instance, picture: Picture, numbers: Sequence[int]
) -> Iterator[bytes]:
    with opened_image(site.archive, found) as image:
        for number in numbers:
            yield site.renderers.rendered(image, number, picture)


def _duration(image: Image) -> float:
    """Return for how many milliseconds each frame is to be shown (PS3.3 Section C.7.6.5)."""
    ds = image.dataset
    try:
        if ds.get("FrameTime"):
            return float(ds.FrameTime)
        rate = ds.get("RecommendedDisplayFrameRate") or ds.get("CineRate")
        return 1000 / float(rate) if rate else _USUAL_TIME
    except (ArithmeticError, TypeError, ValueError):
        return _USUAL_TIME


# --- Several ----------------------------------------------------------------------------------


def _of_several(site: Site, scope: Scope, ranges: list[Range], picture: Picture) -> Response:
    form, _ = _chosen(ranges, _SEVERAL)
    picture = picture._replace(media_type=form.media_type)
    pictures = _begun(_of_all(site, scope, picture))
    return _parts(site, pictures, form.media_type, {"Cache-Control": "private, no-store"})


def _of_all(site: Site, scope: Scope, picture: Picture) -> Iterator[bytes]:
    """Yield the pictures of all frames of all images; objects that are no images have none."""
    is_one_there = False
    for found in scope:
        try:
            with opened_image(site.archive, found) as image:
                fitting = within(picture, image.shape)
                for number in image.every_frame():
                    yield site.renderers.rendered(image, number, fitting)
                    is_one_there = True
        except NotAnImage:
            continue
    if not is_one_there:
        raise NotAnImage("none of its objects is an image")


def _parts(
    site: Site, pictures: Iterator[bytes], media_type: str, fields: dict[str, str]
) -> Response:
    body = Multipart(media_type)
    parts = (BodyPart({"Content-Type": media_type}, [each]) for each in pictures)
    pieces = site.threads.iterate(body.pieces(parts))
    return StreamingResponse(pieces, media_type=body.media_type, headers=fields)


def _begun(pictures: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first picture at once, so that what fails then has a status."""
    with explained():
        return chain([*islice(pictures, 1)], pictures)


def _chosen(ranges: Sequence[Range], forms: Sequence[Form]) -> Chosen:
    chosen = choose(ranges, forms)
    if chosen is None:
        kinds = {True: "in multipart/related", False: "as one part"}
        offered = ", ".join(
            f"{form.media_type} {kinds[kind]}" for form in forms for kind in form.kinds
        )
        raise Problem(406, f"it can be sent as: {offered}")
    return chosen


_PATHS = (STUDY, SERIES, INSTANCE, INSTANCE + "/frames/{frames}")
ENDPOINTS = [
    Endpoint("GET", f"{ROOT}{path}/{name}", UserRight.SEE, answer)
    for path in _PATHS
    for name, answer in (("rendered", rendered), ("thumbnail", thumbnail))
]
