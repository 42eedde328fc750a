"""The JSON API of studies, which the page uses: what DICOMweb does not have."""

from __future__ import annotations

import re

from pydicom.datadict import dictionary_description, dictionary_has_tag
from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import SERIES, STUDY, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page.details import instances_of, study_of
from dicomwire.node.web.page.listing import PAGE, studies
from dicomwire.node.web.page.requests import answer, number_of, seen, wanted_of

_MOST_LISTED = 1000
"""The most studies in one answer."""
_MOST_NAMED = 1000
"""The most tags in one request for their names."""


def _studies(request: Request, site: Site) -> Response:
    parameters = request.query_params
    start = number_of(parameters, "start", 0)
    most = min(number_of(parameters, "limit", PAGE), _MOST_LISTED)
    found = studies(seen(request), wanted_of(parameters), start, most)
    return answer({"total": found.total, "studies": [each._asdict() for each in found.studies]})


def _study(request: Request, site: Site) -> Response:
    study = study_of(seen(request), request.path_params["study"])
    if study is None:
        raise Problem(404, "there is no such study")
    return answer(
        study._asdict()
        | {"title": study.title, "series": [each._asdict() for each in study.series]}
    )


def _series(request: Request, site: Site) -> Response:
    parameters = request.path_params
    found = instances_of(seen(request), parameters["study"], parameters["series"])
    if not found:
        raise Problem(404, "there is no such series")
    listed = [{"uid": each.sop_instance_uid, **each._asdict()} for each in found]
    return answer({"instances": listed})


def _names(request: Request, site: Site) -> Response:
    tags = request.query_params.get("tags", "").split(",")[:_MOST_NAMED]
    numbers = {tag: int(tag, 16) for tag in tags if re.fullmatch("[0-9A-Fa-f]{8}", tag)}
    known = {tag: number for tag, number in numbers.items() if dictionary_has_tag(number)}
    return answer({tag: dictionary_description(number) for tag, number in known.items()})


ENDPOINTS = [
    Endpoint("GET", "/api/studies", UserRight.SEE, _studies),
    Endpoint("GET", f"/api{STUDY}", UserRight.SEE, _study),
    Endpoint("GET", f"/api{SERIES}", UserRight.SEE, _series),
    Endpoint("GET", "/api/names", UserRight.SEE, _names),
]
