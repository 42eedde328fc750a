"""Retrieve Capabilities: what DICOMweb resources there are, in WADL (PS3.18 8.9 and Annex H)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import quoteattr

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.web.endpoints import ROOT, Endpoint, Site, base_url
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.media_types import Form, accepted_by, choose

_WADL = "application/vnd.sun.wadl+xml"
_FORMS = (
    Form(_WADL, is_default=True, kinds=(False,)),
    Form("application/xml", kinds=(False,)),
)
_DATASETS = ("application/dicom+json", 'multipart/related; type="application/dicom+xml"')
_OCTETS = 'multipart/related; type="application/octet-stream"'
_PICTURES = ("image/jpeg", "image/png", "image/gif")
_RESPONSES = {
    "studies": _DATASETS,
    "series": _DATASETS,
    "instances": _DATASETS,
    "metadata": _DATASETS,
    "rendered": _PICTURES,
    "thumbnail": _PICTURES,
    "{frames}": (_OCTETS,),
    "{element}": ("application/octet-stream", _OCTETS),
    "{study}": ('multipart/related; type="application/dicom"',),
    "{series}": ('multipart/related; type="application/dicom"',),
    "{instance}": ('multipart/related; type="application/dicom"', "application/dicom"),
}
"""The media types of responses to GET, by the last part of the path."""
_SEARCHES = ("studies", "series", "instances")
_PARAMETERS = ("includefield", "fuzzymatching", "limit", "offset")
_REQUEST = 'multipart/related; type="application/dicom"'

_Tree = dict[str, "_Tree"]
"""Resources by the last part of their paths."""


def capabilities(request: Request, site: Site) -> Response:
    """Answer with the resources and methods."""
    chosen = choose(accepted_by(request), _FORMS)
    if chosen is None:
        raise Problem(406, f"the capabilities are described in {_WADL}")
    text = "".join(_description(request.app.endpoints, base_url(request)))
    return Response(text, media_type=chosen.form.media_type)


def _description(endpoints: Iterable[Endpoint], base: str) -> Iterator[str]:
    tree: _Tree = {}
    methods: dict[tuple[str, ...], list[str]] = {}
    for each in endpoints:
        path = re.sub(r":\w+}", "}", each.path.removeprefix(ROOT)).strip("/")
        if each.path.startswith(ROOT) and path:
            parts = tuple(path.split("/"))
            methods.setdefault(parts, []).append(each.method)
            node = tree
            for part in parts:
                node = node.setdefault(part, {})
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<application xmlns="http://wadl.dev.java.net/2009/02">'
    yield f"<resources base={quoteattr(base)}>"
    yield from _resources(tree, (), methods)
    yield "</resources></application>\n"


def _resources(
    tree: _Tree, above: tuple[str, ...], methods: dict[tuple[str, ...], list[str]]
) -> Iterator[str]:
    for name, below in tree.items():
        path = (*above, name)
        yield f"<resource path={quoteattr(name)}>"
        if name.startswith("{"):
            yield f'<param name="{name[1:-1]}" style="template" required="true"/>'
        for method in methods.get(path, ()):
            yield from _method(method, name)
        yield from _resources(below, path, methods)
        yield "</resource>"


def _method(method: str, resource: str) -> Iterator[str]:
    yield f'<method name="{method}">'
    if method == "POST":
        yield f"<request><representation mediaType={quoteattr(_REQUEST)}/></request>"
    elif method == "GET" and resource in _SEARCHES:
        names = "".join(f'<param name="{name}" style="query"/>' for name in _PARAMETERS)
        yield f"<request>{names}</request>"
    types = _RESPONSES.get(resource, ()) if method == "GET" else ()
    shown = "".join(f"<representation mediaType={quoteattr(each)}/>" for each in types)
    yield f"<response>{shown}</response></method>"


ENDPOINTS = [Endpoint("OPTIONS", path, None, capabilities) for path in (ROOT, f"{ROOT}/")]
