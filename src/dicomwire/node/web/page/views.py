"""The pages: the list of studies, a study, its images, uploading, and what the archive does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.page.actions import MOST_STUDIES
from dicomwire.node.web.page.details import study_of
from dicomwire.node.web.page.frame import frame
from dicomwire.node.web.page.listing import DEFAULT_SORT, PAGE, modalities, studies
from dicomwire.node.web.page.rendering import page, static_file
from dicomwire.node.web.page.requests import PARAMETERS, number_of, seen, wanted_of


def _studies(request: Request, site: Site) -> Response:
    facts = _list(request)
    facts["modalities"] = modalities(seen(request))
    return page("studies.html", **frame(request, site, "studies"), **facts)


def _results(request: Request, site: Site) -> Response:
    return page("results.html", **frame(request, site, "studies"), **_list(request))


def _list(request: Request) -> dict[str, Any]:
    parameters = request.query_params
    wanted = wanted_of(parameters)
    start = number_of(parameters, "start", 0) // PAGE * PAGE
    own = {name: parameters[name] for name in PARAMETERS if parameters.get(name)}

    def link(**changes: Any) -> str:
        query = urlencode({name: value for name, value in {**own, **changes}.items() if value})
        return f"/?{query}" if query else "/"

    return {
        "wanted": wanted,
        "page": studies(seen(request), wanted, start),
        "start": start,
        "size": PAGE,
        "link": link,
        "query": urlencode(own),
        "default_sort": DEFAULT_SORT,
        "most_exported": MOST_STUDIES,
    }


_NO_STUDY = {
    "title": "There is no such study",
    "text": "It may have been deleted, or your account may not show it.",
}


def _study(request: Request, site: Site) -> Response:
    return _page_of_study("study.html", request, site)


def _view(request: Request, site: Site) -> Response:
    return _page_of_study("viewer.html", request, site)


def _page_of_study(template: str, request: Request, site: Site) -> Response:
    study = study_of(seen(request), request.path_params["study"])
    common = frame(request, site, "studies")
    if study is None:
        return page("message.html", 404, **common, **_NO_STUDY)
    return page(template, **common, study=study)


def _upload(request: Request, site: Site) -> Response:
    return page("upload.html", **frame(request, site, "upload"))


def login_page(
    request: Request, site: Site, error: str = "", target: str | None = None
) -> Response:
    """Return the page to log in; `target` is where to go then, or the request says it."""
    target = request.query_params.get("next", "") if target is None else target
    return page("login.html", **frame(request, site, ""), error=error, next=target, name="")


def _static(request: Request, site: Site) -> Response:
    return static_file(request.path_params["name"], request.headers.get("if-none-match", ""))


ENDPOINTS = [
    Endpoint("GET", "/", UserRight.SEE, _studies),
    Endpoint("GET", "/results", UserRight.SEE, _results),
    Endpoint("GET", "/study/{study}", UserRight.SEE, _study),
    Endpoint("GET", "/view/{study}", UserRight.SEE, _view),
    Endpoint("GET", "/upload", UserRight.STORE, _upload),
    Endpoint("GET", "/static/{name}", None, _static),
]
